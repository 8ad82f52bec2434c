"""MLflow behind the hub's identity: one process, whose only authority is the project's roles.

Vocabulary. The *caller* is the principal of one request together with its roles. The *owner* of an
experiment is read from its name (`ownership`). *Served* routes are those of MLflow that reach
a guarded store; all others are refused (`routes`).

Three decisions carry the room:

- The check sits where the data is, not where the requests are parsed: `guard.GuardedStore` is the
  only store MLflow's handlers get, it answers for the caller, and a method that it does not name
  is refused. So REST, the UI's own routes and GraphQL meet one and the same check, and no second
  reading of a request can differ from MLflow's.
- MLflow's FastAPI application is not loaded: it only adds what we refuse anyway (gateway,
  assistant, jobs, OTLP) and costs memory. Artifacts are streamed by two of its functions.
- MLflow's own permission application and its CORS layer are off: the first keeps a second set of
  permissions, the second lets every port of localhost read with the user's cookies.
"""
