"""Transformations: JavaScript of a customer that changes what an endpoint is sent. It runs in processes of its own.

`contract` says what goes in and what may come out, `runner` keeps the processes, `child` is the program in them, and
`confinement` what it gives up before it runs anything.
"""
