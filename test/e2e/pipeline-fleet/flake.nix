# A fleet for the pipeline's tests: what each host is, and how it is broken, stands in fleet.json.
{
  outputs =
    { self }:
    let
      fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
      settingsOf = name: builtins.path {
        path = ./hosts + "/${name}";
        name = "${name}-settings";
      };
      # Fails on demand; the toplevels of all hosts with `shared` need it.
      shared = derivation {
        name = "shared-tool";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-c" "echo compiling the shared tool; ${fleet.shared}; echo tool > $out" ];
        PATH = "/usr/bin:/bin";
      };
      hog = size: builtins.length (builtins.filter (text: text == "") (builtins.genList toString size));
      makeHost =
        name: host:
        let
          filesOf = builtins.mapAttrs (_: file: { file = ./. + "/${file}"; });
          files = filesOf (host.secrets or { });
          users = builtins.mapAttrs (_: own: { age.secrets = filesOf own; }) (host.users or { });
          all = builtins.attrValues files ++ builtins.concatMap (user: builtins.attrValues user.age.secrets) (builtins.attrValues users);
          toplevel = derivation {
            name = "nixos-system-${name}-test";
            system = host.system or "x86_64-linux";
            builder = "/bin/sh";
            args = [
              "-c"
              ''
                echo building ${name}; ${host.build or ":"}
                mkdir -p $out/bin; echo ${host.system or "x86_64-linux"} > $out/system
                cp $settings/version $out/version; echo "$secrets" > $out/secrets
              ''
            ];
            PATH = "/usr/bin:/bin";
            settings = settingsOf name;
            secrets = builtins.concatStringsSep " " (map (s: "${s.file}") all);
            tool = if host.shared or false then shared else "";
          };
        in
        {
          config = if host ? throws then throw host.throws else if host ? hog then hog host.hog else {
            age.secrets = files;
            home-manager.users = users;
            system.build.toplevel = toplevel;
          };
        };
    in
    {
      nixosConfigurations = builtins.mapAttrs makeHost fleet.hosts;
      inherit (fleet) slipway;
    };
}
