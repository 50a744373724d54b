// The Nix function that says which secrets a host uses: `nix eval --json .#nixosConfigurations.H --apply '<this>'`.
// It forces only `config.age.secrets`, of the host and of its home-manager users, copies no file, and gives nothing for a
// host without agenix' module.

/**
 * `secrets` of the host, and `users`: those of each home-manager user who has some. Value for each secret: `file` (store path without context), `text` (given as a string, not as a path), `built` (made
 * by a derivation, not a source file), `rekeyed` (the file is agenix-rekey's `rekeyFile`, `target` where its copy belongs),
 * `sha256` of the file or null, and where and as whom the host will hold it. `parseHostSecrets` reads it.
 */
export const secretsExpression = `host:
let
  plain = value: builtins.unsafeDiscardStringContext (toString value);
  secretsOf = config:
    let
      rekey = config.age.rekey or { };
    in
    builtins.mapAttrs (describe rekey) (removeIntermediary (config.age.secrets or { }));
  # agenix-rekey: what is committed is rekeyFile; where the host's copy belongs is named by key and ciphertext.
  hash = builtins.hashString "sha256";
  target = rekey: name: secret:
    if (rekey.storageMode or "derivation") != "local" || !(builtins.pathExists secret.rekeyFile) then null
    else "\${plain rekey.localStorageDir}/\${ident rekey secret}-\${secret.name or name}.age";
  ident = rekey: secret: builtins.substring 0 32 (hash (hash rekey.hostPubkey + builtins.hashFile "sha256" secret.rekeyFile));
  removeIntermediary = secrets:
    builtins.removeAttrs secrets
      (builtins.filter (name: secrets.\${name}.intermediary or false) (builtins.attrNames secrets));
  removeEmpty = sets:
    builtins.removeAttrs sets (builtins.filter (name: sets.\${name} == { }) (builtins.attrNames sets));
  describe = rekey: name: given:
    let
      rekeyed = (given.rekeyFile or null) != null;
      secret = if rekeyed then given // { file = given.rekeyFile; } else given;
      origins = builtins.attrValues (builtins.getContext (toString secret.file));
      built = builtins.any (origin: origin ? outputs) origins;
      present = !built && builtins.pathExists secret.file;
    in
    {
      inherit built rekeyed;
      target = if rekeyed then target rekey name secret else null;
      file = plain secret.file;
      text = builtins.isString secret.file;
      sha256 = if present then builtins.hashFile "sha256" secret.file else null;
      path = plain (secret.path or "/run/agenix/\${name}");
      owner = plain (secret.owner or "0");
      group = plain (secret.group or "0");
      mode = plain (secret.mode or "0400");
      symlink = secret.symlink or true;
    };
  users = builtins.mapAttrs (_: secretsOf) (host.config.home-manager.users or { });
in
{
  secrets = secretsOf host.config;
  users = removeEmpty users;
}`;
