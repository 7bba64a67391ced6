# Stands in for nixpkgs where it cannot be downloaded: derivations that cannot be built, under exactly the names,
# outputs and arguments that attributes.json lists. Any other attribute or argument is an evaluation error, as it
# would be there.
{ system, config }:
let
  table = builtins.fromJSON (builtins.readFile ./attributes.json);

  package = name: { version ? "0", outputs ? [ "out" ], unfree ? false, members ? { }, ... }:
    let
      built = derivation { inherit system outputs; name = "${name}-${version}"; builder = "/stand-in"; };
      described = built // { inherit version; pname = name; } // builtins.mapAttrs attribute members;
    in
    if unfree && !(config.allowUnfreePredicate { pname = name; })
    then throw "${name} is unfree and config.allowUnfreePredicate refuses it"
    else described;

  built = { name, ... }@arguments: derivation (arguments // { inherit system; builder = "/stand-in"; });

  functions = {
    fetchurl = { name, url, sha256, downloadToTemp, postFetch }:
      built { inherit name url postFetch; outputHashAlgo = "sha256"; outputHash = sha256; outputHashMode = "flat"; };
    mkDerivation =
      { pname, version, src, dontUnpack, dontStrip, nativeBuildInputs, buildInputs, installPhase }@arguments:
      built (arguments // { name = "${pname}-${version}"; }) // { inherit pname; };
    mkShellNoCC = { name, shellHook }@arguments: built arguments;
    runCommand = name: { nativeBuildInputs ? [ ] }@arguments: buildCommand:
      built (arguments // { inherit name buildCommand; });
    symlinkJoin = { name, paths, postBuild }@arguments: built arguments;
    writeShellScriptBin = name: text: built { inherit name text; };
  };

  attribute = name: entry: {
    package = package name entry;
    set = builtins.mapAttrs attribute entry.members;
    value = entry.value;
    function = functions.${name};
  }.${entry.kind};
in
builtins.mapAttrs attribute table.pkgs
