"""RaCFormer's decoder: queries on rays around the car look into images, camera BEV and radar BEV."""
