# What `nix flake check` builds: seconds, no network, no GPU, no CUDA. The tests themselves are `make test`.
{ lib, pkgs, pins, source }:
let
  python = pkgs.${pins.attributes.python};
  found = {
    python = python.pythonVersion;
    gcc = lib.versions.major pkgs.${pins.attributes.gcc}.cc.version;
    nvcc = pkgs.${pins.attributes.cuda}.cuda_nvcc.version;
  };
  pinned = { inherit (pins) python gcc nvcc; };
in
{
  pins =
    if found == pinned then pkgs.runCommand "racdino-pins" { } "touch $out"
    else throw
      ("nixpkgs has ${builtins.toJSON found} and environment/pins.toml says ${builtins.toJSON pinned}: "
        + "change flake.lock or the table.");

  # Not ruff: nixpkgs' is another version than environment/pins.toml's and finds other things.
  python-parses = pkgs.runCommand "racdino-python-parses" { nativeBuildInputs = [ python ]; } ''
    cd ${source}
    PYTHONPYCACHEPREFIX=$TMPDIR python -m compileall -q .
    touch $out
  '';

  shell-parses = pkgs.runCommand "racdino-shell-parses" { } ''
    cd ${source}
    { grep -rlE '^#!.*[ /](ba)?sh$' .; find . -name '*.sh'; } | sort -u | while read -r script; do
      bash -n "$script"
    done
    touch $out
  '';
}
