"""/queue and /cancel: one's own jobs."""

from __future__ import annotations

import time

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.buttons import jobs_view
from bot.discord.client import Ganvas
from bot.discord.people import guild_key, is_moderator, member_of
from bot.discord.progress import status_text
from engine.errors import InvalidRequest


async def complete_job(interaction: discord.Interaction[Ganvas], current: str) -> list[app_commands.Choice[str]]:
    """Offer one's jobs that are not done."""
    bot = interaction.client
    say, me = bot.private_voice(interaction), member_of(interaction.user)
    choices = []
    for job in bot.studio.queue.live(member=me)[:25]:
        state = say("At work") if job.state == "running" else say("Waiting")
        choices.append(app_commands.Choice(name=f"{job.command} · {job.id} · {state}"[:100], value=job.id))
    return [choice for choice in choices if current.lower() in choice.name.lower()]


class Queue(commands.Cog):
    """What waits and what is at work."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot

    async def cog_load(self) -> None:
        """Follow the jobs of before a restart."""
        self.bot.background(self._follow(), "jobs")

    async def _follow(self) -> None:
        for job in self.bot.studio.queue.live():
            self.bot.progress.follow(job)

    @app_commands.command(description="Your jobs: place in line and when they will be ready.")
    async def queue(self, interaction: discord.Interaction[Ganvas]) -> None:
        """List one's jobs."""
        _, say = await self.bot.begin(interaction, private=True)
        queue = self.bot.studio.queue
        jobs = await queue.jobs(member_of(interaction.user))
        lines = []
        for number, job in enumerate(jobs, start=1):
            status = await queue.status(job.id)
            text = status_text(status, say, time.time()) if status.state in ("queued", "running") else say("Delivering")
            lines.append(f"{number}. {job.command}: {text}")
        all_of_it = await queue.overview(guild_key(interaction.guild_id))
        lines.append(
            say("Here {running} at work and {waiting} waiting.", running=all_of_it.running, waiting=all_of_it.waiting)
        )
        view = jobs_view([job.id for job in jobs], say) if jobs else None
        await interaction.edit_original_response(content="\n".join(lines)[:2000], view=view)

    @app_commands.command(description="Cancel one of your jobs.")
    @app_commands.describe(job="Which; without it, the newest")
    @app_commands.autocomplete(job=complete_job)
    async def cancel(
        self, interaction: discord.Interaction[Ganvas], job: app_commands.Range[str, 1, 64] | None = None
    ) -> None:
        """Cancel a job."""
        _, say = await self.bot.begin(interaction, private=True)
        me = member_of(interaction.user)
        if job is None:
            jobs = await self.bot.studio.queue.jobs(me, limit=1)
            if not jobs:
                raise InvalidRequest("You have no job that could be cancelled.")
            job = jobs[0].id
        ended = await self.bot.studio.queue.cancel(job, by=me, moderator=is_moderator(interaction))
        text = say("Cancelled.") if ended.state == "cancelled" else say("It was done already.")
        await interaction.edit_original_response(content=text)


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Queue(bot))
