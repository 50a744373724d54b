# One host: what `nixpkgs.lib.nixosSystem` would return, as far as Slipway and agenix look at it.
# Every input is copied to the store by itself (builtins.path): a change to one host rebuilds that host alone.
{
  name,
  settings,
  secrets,
  agentConfig ? null,
}:
let
  system = "x86_64-linux";
  # A static busybox in tools/bin; the base name of a builder is its applet, so it must not be a bare store file.
  tools = builtins.path {
    path = ../tools;
    name = "homelab-tools";
  };
  busybox = "${tools}/bin/busybox";
  part =
    file:
    builtins.path {
      path = ./. + "/${file}";
      name = baseNameOf file;
    };
  hostSettings = builtins.path {
    path = settings;
    name = "${name}-settings";
  };
  version = builtins.replaceStrings [ "\n" ] [ "" ] (builtins.readFile (settings + "/version"));

  # agenix' options with agenix' defaults.
  age = {
    identityPaths = [ "/etc/ssh/ssh_host_ed25519_key" ];
    secretsDir = "/run/agenix";
    secretsMountPoint = "/run/agenix.d";
    secrets = builtins.mapAttrs (
      secret: given:
      {
        name = secret;
        path = "${age.secretsDir}/${secret}";
        mode = "0400";
        owner = "0";
        group = "0";
        symlink = true;
      }
      // given
    ) secrets;
  };
  # One line a secret, for the activation script.
  secretLine =
    secret: "${secret.name} ${secret.file} ${secret.path} ${secret.mode} ${secret.owner} ${secret.group}\n";
  secretList = builtins.concatStringsSep "" (builtins.map secretLine (builtins.attrValues age.secrets));

  hello = derivation {
    name = "hello-${version}";
    inherit system busybox version;
    builder = busybox;
    args = [
      "sh"
      (part "build-hello.sh")
    ];
    script = part "hello.sh";
    PATH = "${tools}/bin";
  };

  # What `environment.systemPackages` makes: here busybox with its applets.
  systemPath = derivation {
    name = "system-path";
    inherit system busybox;
    builder = busybox;
    args = [
      "sh"
      "-c"
      "$busybox mkdir -p $out/bin && $busybox --install -s $out/bin"
    ];
  };

  toplevel = derivation {
    name = "nixos-system-${name}-26.05.homelab";
    inherit
      system
      busybox
      tools
      hello
      systemPath
      ;
    builder = busybox;
    args = [
      "sh"
      (part "build-toplevel.sh")
    ];
    hostName = name;
    settings = hostSettings;
    activate = part "activate.sh";
    switchToConfiguration = part "switch-to-configuration.sh";
    identities = builtins.concatStringsSep " " age.identityPaths;
    secrets = secretList;
    agentConfig = if agentConfig == null then "" else "${agentConfig}";
    PATH = "${tools}/bin";
  };
in
{
  config = {
    inherit age;
    networking.hostName = name;
    nixpkgs.hostPlatform = { inherit system; };
    system.build.toplevel = toplevel;
    system.name = name;
  };
}
