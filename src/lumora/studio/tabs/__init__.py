"""The tabs of the page: each arranges what functions beside this folder find out."""
