// The Nix function that says which secrets a host uses: `nix eval --json .#nixosConfigurations.H --apply '<this>'`.
// It forces only `config.age.secrets`, copies no file, and gives `{ }` for a host without agenix' module.

/**
 * Value for each secret: `file` (store path without context), `text` (given as a string, not as a path), `built` (made
 * by a derivation, not a source file), `rekeyed` (the file is agenix-rekey's `rekeyFile`, `target` where its copy belongs),
 * `sha256` of the file or null, and where and as whom the host will hold it. `parseHostSecrets` reads it.
 */
export const secretsExpression = `host:
let
  plain = value: builtins.unsafeDiscardStringContext (toString value);
  # agenix-rekey: what is committed is rekeyFile; where the host's copy belongs is named by key and ciphertext.
  rekey = host.config.age.rekey or { };
  hash = builtins.hashString "sha256";
  target = name: secret:
    if (rekey.storageMode or "derivation") != "local" || !(builtins.pathExists secret.rekeyFile) then null
    else "\${plain rekey.localStorageDir}/\${ident secret}-\${secret.name or name}.age";
  ident = secret: builtins.substring 0 32 (hash (hash rekey.hostPubkey + builtins.hashFile "sha256" secret.rekeyFile));
  removeIntermediary = secrets:
    builtins.removeAttrs secrets
      (builtins.filter (name: secrets.\${name}.intermediary or false) (builtins.attrNames secrets));
  describe = name: given:
    let
      rekeyed = (given.rekeyFile or null) != null;
      secret = if rekeyed then given // { file = given.rekeyFile; } else given;
      origins = builtins.attrValues (builtins.getContext (toString secret.file));
      built = builtins.any (origin: origin ? outputs) origins;
      present = !built && builtins.pathExists secret.file;
    in
    {
      inherit built rekeyed;
      target = if rekeyed then target name secret else null;
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
builtins.mapAttrs describe (removeIntermediary (host.config.age.secrets or { }))`;
