{
  description = "The stand-in for nixpkgs, for --override-input nixpkgs";
  outputs = { self }: { lib = import ./lib.nix; };
}
