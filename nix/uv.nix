# The pinned uv, so that scripts/bootstrap.sh uses the one on PATH instead of obtaining another. nixpkgs of this
# revision has none that would do: a uv of another version may order or word the locks differently.
{ pkgs, pins }:
let
  # The pin is of the program inside the release archive, so that is what the fixed output is.
  program = pkgs.fetchurl {
    name = "uv-${pins.uv.version}-program";
    url = pins.uv.release;
    sha256 = pins.uv.program-sha256;
    downloadToTemp = true;
    postFetch = ''
      mkdir unpacked
      tar -xzf "$downloadedFile" -C unpacked --strip-components=1
      install -m 644 unpacked/uv "$out" # a fixed output that is a file may not be executable
    '';
  };
in
pkgs.stdenv.mkDerivation {
  pname = "uv";
  inherit (pins.uv) version;
  src = program;
  dontUnpack = true;
  dontStrip = true;
  # NixOS has no /lib64/ld-linux-x86-64.so.2, which the program asks for; uv needs libgcc_s besides the C library.
  nativeBuildInputs = [ pkgs.autoPatchelfHook ];
  buildInputs = [ pkgs.stdenv.cc.cc.lib ];
  installPhase = ''
    install -D -m 755 "$src" "$out/bin/uv"
  '';
}
