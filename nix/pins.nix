# The versions that the flake needs, read from environment/pins.toml, their one home.
let
  table = builtins.fromTOML (builtins.readFile ../environment/pins.toml);
  inherit (table.cuda) nvcc;
  gcc = table.cuda.gcc-max;
  python = table.python.version;
  cudaRelease = builtins.match "([0-9]+)\\.([0-9]+)\\..*" nvcc;
in
{
  inherit nvcc gcc python;
  uv = table.bootstrap.uv;
  # What nixpkgs calls them.
  attributes = {
    python = "python" + builtins.replaceStrings [ "." ] [ "" ] python;
    gcc = "gcc" + gcc;
    cuda = "cudaPackages_" + builtins.concatStringsSep "_" cudaRelease;
  };
  # The compiler, and the headers that torch 2.0's own headers, mmcv-full, flash-attn and racdino/csrc include.
  cudaComponents = [
    "cuda_nvcc"
    "cuda_cudart"
    "cuda_cccl"
    "libcublas"
    "libcurand"
    "libcusolver"
    "libcusparse"
  ];
}
