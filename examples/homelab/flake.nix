# A fleet of three hosts, the way Slipway's users have one, but without nixpkgs: it evaluates and builds with no network.
# Its toplevels have what a NixOS toplevel has, so everything after `nixosConfigurations` is the real thing.
{
  description = "Slipway's example fleet";

  outputs =
    { self }:
    let
      # Addresses, host keys and editors: data that people and tools write, not code.
      fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
      makeHost = import ./lib/make-host.nix;

      health = {
        units = [ "hello.service" ];
        http = [ { url = "http://127.0.0.1:8080/"; } ];
        timeout = 20;
        stable = 1;
      };
      # A key that is not known yet is left out; Slipway then says which host lacks one.
      known =
        name: host:
        let
          facts = fleet.hosts.${name} or { };
        in
        host
        // (if facts ? publicKey then { inherit (facts) publicKey; } else { })
        // (if facts ? address then { targetHost = facts.address; } else { });
    in
    {
      nixosConfigurations = {
        web1 = makeHost {
          name = "web1";
          settings = ./hosts/web1;
          secrets = {
            hello.file = ./secrets/web1-hello.age;
            mail.file = ./secrets/mail.age;
          };
        };
        pi1 = makeHost {
          name = "pi1";
          settings = ./hosts/pi1;
          secrets = {
            hello.file = ./secrets/pi1-hello.age;
            mail.file = ./secrets/mail.age;
          };
          # Without the file the host runs no agent.
          agentConfig = if builtins.pathExists ./hosts/pi1/agent.toml then ./hosts/pi1/agent.toml else null;
        };
        forge1 = makeHost {
          name = "forge1";
          settings = ./hosts/forge1;
          secrets.hello.file = ./secrets/forge1-hello.age;
        };
      };

      slipway = {
        hosts = builtins.mapAttrs known {
          web1 = {
            mode = "push";
            tags = [ "web" ];
            wave = 1;
            required = true;
            inherit health;
          };
          pi1 = {
            mode = "pull";
            tags = [ "home" ];
            wave = 1;
            inherit health;
          };
          # The machine that carries the forge is moved by hand.
          forge1 = {
            mode = "manual";
            inherit health;
          };
        };
        secrets.editors = fleet.editors;
        release.branch = "release";
        caches = fleet.caches;
      };
    };
}
