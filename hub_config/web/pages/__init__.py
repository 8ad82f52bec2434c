"""The portal's pages. They call the same domain functions as the REST routes do."""

from fastapi import APIRouter

from hub_config.web.pages import account, admin, home, projects, run_form, runs, signup

router = APIRouter()
for pages in (home, projects, run_form, runs, admin, signup, account):
    router.include_router(pages.router)
