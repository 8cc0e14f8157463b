"""Faces in pictures: where they are, their landmarks, expressions and silhouettes, by networks that ship with the package."""
