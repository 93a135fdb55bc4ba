"""Settings that every installation shares."""
LANGUAGE_CODE = "en-us"
DEBUG = True
