"""The files of a deployment, shipped with the service as the package `mai_sessions.deploy`; docs/deploy.md
uses them.
"""
