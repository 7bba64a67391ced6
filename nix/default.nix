# The shell, the programs and the checks of flake.nix, for one system.
{ nixpkgs, system, source }:
let
  inherit (nixpkgs) lib;
  pins = import ./pins.nix;
  pkgs = import nixpkgs {
    inherit system;
    # CUDA is the only unfree software here, and only by these names.
    config.allowUnfreePredicate = package: builtins.elem (lib.getName package) pins.cudaComponents;
  };
  environment = import ./environment.nix { inherit lib pkgs pins; };

  # A task of the checkout that the user stands in, not of the store's copy: it makes .venv there and writes to
  # outputs/.
  task = name: pkgs.writeShellScriptBin "racdino-${name}" ''
    set -euo pipefail
    if [ ! -f tasks.py ]; then
      echo "nix run .#${name}: $PWD has no tasks.py: run it in the top folder of a RacDINO checkout." >&2
      exit 2
    fi
    ${environment}
    racdino_check_host
    exec make ${name} "$@"
  '';
in
{
  shell = pkgs.mkShellNoCC {
    name = "racdino";
    shellHook = ''
      ${environment}
      racdino_check_host || true
    '';
  };
  programs = lib.genAttrs [ "verify" "image" ] task;
  checks = import ./checks.nix { inherit lib pkgs pins source; };
  formatter = pkgs.nixpkgs-fmt;
}
