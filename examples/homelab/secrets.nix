# agenix' rules file: who can read the secrets on this branch. Editors only; Slipway re-keys them to the hosts.
let
  fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
in
builtins.listToAttrs (
  builtins.map
    (name: {
      name = "secrets/${name}.age";
      value.publicKeys = fleet.editors;
    })
    [
      "web1-hello"
      "pi1-hello"
      "forge1-hello"
      "mail"
    ]
)
