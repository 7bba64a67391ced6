# Sourced by `nix develop` and by the apps of flake.nix: which libraries of the host a program may see. For bash.
#
# A program of nixpkgs runs with nixpkgs' C library. It needs the host's NVIDIA driver, which must fit the host's
# kernel module; but with the host's whole library folder in LD_LIBRARY_PATH it would also load the host's libc and
# libstdc++, which do not fit its own, and crash. So a private folder of links holds the driver's libraries for
# computing and nothing else.

racdino_gpu_marks=(/proc/driver/nvidia/version /dev/dxg)
racdino_driver_folders=(/run/opengl-driver/lib /usr/lib/wsl/lib /usr/lib/x86_64-linux-gnu /usr/lib64)
racdino_driver_libraries=(
  libcuda.so.1 libnvidia-ml.so.1 libnvidia-ptxjitcompiler.so.1 # the driver, its management, its compiler of PTX
  'libnvidia-nvvm.so.*' 'libnvidia-gpucomp.so.*' libdxcore.so  # what libcuda loads in turn: newer drivers, WSL
)

# racdino_link_driver FOLDER: link the driver's libraries into it, from the first of the host's folders that has them.
racdino_link_driver() {
  local folder=$1 host name library
  for host in "${racdino_driver_folders[@]}"; do
    if [ ! -e "$host/libcuda.so.1" ]; then continue; fi
    mkdir -p "$folder"
    rm -f "$folder"/*.so*
    for name in "${racdino_driver_libraries[@]}"; do
      for library in "$host"/$name; do
        if [ -e "$library" ]; then ln -sfn "$library" "$folder/"; fi
      done
    done
    return 0
  done
  return 1
}

# racdino_use_libraries FOLDER: let programs see FOLDER and the driver; what LD_LIBRARY_PATH was is the host's, so it
# goes.
racdino_use_libraries() {
  local driver=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/racdino/nix-driver mark
  export LD_LIBRARY_PATH=$1
  if racdino_link_driver "$driver"; then
    LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$driver
    return
  fi
  for mark in "${racdino_gpu_marks[@]}"; do
    if [ -e "$mark" ]; then
      printf 'racdino: %s says there is an NVIDIA GPU, but libcuda.so.1 is in none of %s: %s\n' "$mark" \
        "${racdino_driver_folders[*]}" "this shell will see no GPU; install the driver's libraries for computing." >&2
      return
    fi
  done
}

# racdino_check_host: one sentence, and status 2, where the set-up cannot work here.
racdino_check_host() {
  local python
  if [ -e "${racdino_nixos_mark:-/etc/NIXOS}" ] && [ -z "${NIX_LD:-}" ]; then
    printf 'racdino: %s %s\n' "NixOS does not start the wheels' own programs (ninja, cmake, ruff) without nix-ld:" \
      "set programs.nix-ld.enable = true and log in again." >&2
    return 2
  fi
  if [ -L .venv/bin/python ]; then
    python=$(readlink -f .venv/bin/python)
    if [[ $python != "${NIX_STORE:-/nix/store}"/* ]]; then
      printf 'racdino: the .venv here was made outside Nix (its Python is %s) and does not fit this shell: %s\n' \
        "$python" "delete it, or work in another checkout." >&2
      return 2
    fi
  fi
}
