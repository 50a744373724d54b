// The Nix function that says which secrets a host uses: `nix eval --json .#nixosConfigurations.H --apply '<this>'`.
// It forces only `config.age.secrets`, copies no file, and gives `{ }` for a host without agenix' module.

/**
 * Value for each secret: `file` (store path without context), `text` (given as a string, not as a path), `built` (made
 * by a derivation, not a source file),
 * `sha256` of the file or null, and where and as whom the host will hold it. `parseHostSecrets` reads it.
 */
export const secretsExpression = `host:
let
  plain = value: builtins.unsafeDiscardStringContext (toString value);
  describe = name: secret:
    let
      origins = builtins.attrValues (builtins.getContext (toString secret.file));
      built = builtins.any (origin: origin ? outputs) origins;
      present = !built && builtins.pathExists secret.file;
    in
    {
      inherit built;
      file = plain secret.file;
      text = builtins.isString secret.file;
      sha256 = if present then builtins.hashFile "sha256" secret.file else null;
      path = plain (secret.path or "/run/agenix/\${name}");
      owner = plain (secret.owner or "0");
      group = plain (secret.group or "0");
      mode = plain (secret.mode or "0400");
      symlink = secret.symlink or true;
    };
in
builtins.mapAttrs describe (host.config.age.secrets or { })`;
