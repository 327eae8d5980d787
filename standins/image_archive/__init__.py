"""A stand-in of a hospital's archive of images: makes up studies, gives them out over WADO-RS, and keeps nothing."""
