{
  description = "RacDINO: a shell with nvcc 11.8, gcc 11 and Python 3.10, and the project's tasks (docs/nix.md)";

  # A release of the toolchain's own time: CUDA 11.8 left nixpkgs in 2025. flake.lock holds its final revision.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-23.11";

  outputs = { self, nixpkgs }:
    let
      forAllSystems = select: nixpkgs.lib.genAttrs [ "x86_64-linux" ] (system:
        select (import ./nix { inherit nixpkgs system; source = self; }));
      app = package: { type = "app"; program = "${package}/bin/${package.name}"; };
    in
    {
      devShells = forAllSystems (racdino: { default = racdino.shell; });
      apps = forAllSystems (racdino: builtins.mapAttrs (_: app) racdino.programs);
      checks = forAllSystems (racdino: racdino.checks);
      formatter = forAllSystems (racdino: racdino.formatter);
    };
}
