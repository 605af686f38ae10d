"""The access package: what is held about one person, in a folder or a single file that is handed to that person.

Nothing here asks the network anything or knows of runs: an answer of the API goes in, a package on disk comes out.
"""
