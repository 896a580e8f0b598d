"""`python -m lumora`: the program `lumora`, for those who start it by a module's name, as torchrun does."""

from lumora.cli import main

if __name__ == "__main__":
    main()
