# The functions of nixpkgs' lib that attributes.json lists, and no others.
let
  listed = builtins.attrNames (builtins.fromJSON (builtins.readFile ./attributes.json)).lib;
  functions = {
    genAttrs = names: function: builtins.listToAttrs (map (name: { inherit name; value = function name; }) names);
    getName = package: package.pname;
    makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package.bin or package}/bin") packages);
    versions.major = version: builtins.head (builtins.splitVersion version);
  };
in
builtins.listToAttrs (map (name: { inherit name; value = functions.${name}; }) listed)
