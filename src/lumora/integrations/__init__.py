"""Lumora inside other libraries' loops; each module imports the library that it is for."""
