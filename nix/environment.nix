# The shell lines that give a bash the toolchain: the hook of `nix develop`, and the start of each app.
{ lib, pkgs, pins }:
let
  python = pkgs.${pins.attributes.python};
  gcc = pkgs.${pins.attributes.gcc};
  cudaPackages = pkgs.${pins.attributes.cuda};

  # One folder as torch expects CUDA_HOME to be: bin, include, lib64. `all` is every output, however they are split.
  # Out goes the empty libcuda that is for linking only: what is linked here looks for its libraries in this lib at
  # run time.
  cuda = pkgs.symlinkJoin {
    name = "cuda-${pins.nvcc}";
    paths = builtins.concatMap (name: cudaPackages.${name}.all) pins.cudaComponents;
    postBuild = ''
      rm -rf "$out/lib64"
      ln -s lib "$out/lib64"
      rm -f "$out"/lib/libcuda.so*
    '';
  };

  # What the wheels of the locks take from the system and nixpkgs' Python does not bring: libstdc++, and libturbojpeg,
  # which pyturbojpeg loads. Links to single files: the rest of gcc's folder, libgcc_s above all, would reach the
  # host's own programs too, and nixpkgs' is made for a newer C library than many hosts have.
  wheelLibraries = pkgs.runCommand "racdino-wheel-libraries" { } ''
    mkdir -p "$out/lib"
    ln -s ${pkgs.stdenv.cc.cc.lib}/lib/libstdc++.so.6 "$out/lib/"
    ln -s ${pkgs.libjpeg_turbo.out}/lib/libturbojpeg.so.0 "$out/lib/"
    ln -s libturbojpeg.so.0 "$out/lib/libturbojpeg.so"
  '';

  # On PATH by hand, not as inputs of a shell: nixpkgs' Python would also set PYTHONPATH and others, which .venv must
  # not see.
  tools = [
    gcc
    pkgs.binutils
    cuda
    python
    python.pkgs.invoke
    (import ./uv.nix { inherit pkgs pins; })
    pkgs.git
    pkgs.gnumake
  ];
in
''
  export CUDA_HOME=${cuda} CC=${gcc}/bin/gcc CXX=${gcc}/bin/g++ CUDAHOSTCXX=${gcc}/bin/g++
  export PATH=${lib.makeBinPath tools}:$PATH
  # Compile with the flags that setup.py and torch give, as on every other machine.
  export NIX_HARDENING_ENABLE=
  . ${./environment.sh}
  racdino_use_libraries ${wheelLibraries}/lib
''
