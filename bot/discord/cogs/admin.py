"""/admin: bans, removals, and how the house is."""

from __future__ import annotations

import discord
from discord import app_commands
from discord.ext import commands

from bot.discord.client import Ganvas
from bot.discord.people import guild_key, member_of
from engine.errors import InvalidRequest


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Admin(commands.GroupCog, name="admin", description="Keep order in this server."):
    """For those who may Manage Server; checked again here, for the client's word is only a default."""

    def __init__(self, bot: Ganvas) -> None:
        self.bot = bot
        super().__init__()

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        """Let only managers in."""
        if not interaction.permissions.manage_guild:
            raise app_commands.MissingPermissions(["manage_guild"])
        return True

    @app_commands.command(description="Ban somebody from making and voting here.")
    @app_commands.describe(member="Who", reason="Why; they are not told")
    async def ban(
        self,
        interaction: discord.Interaction[Ganvas],
        member: discord.User,
        reason: app_commands.Range[str, 1, 200] | None = None,
    ) -> None:
        """Ban."""
        _, say = await self.bot.begin(interaction, private=True)
        guild, by = guild_key(interaction.guild_id), member_of(interaction.user)
        if member == interaction.user:
            raise InvalidRequest("You cannot ban yourself.")
        await self.bot.studio.policy.ban(guild, member_of(member), by=by, reason=reason or "")
        await interaction.edit_original_response(content=say("{name} is banned here.", name=member.mention))

    @app_commands.command(description="Lift a ban.")
    @app_commands.describe(member="Whose")
    async def unban(self, interaction: discord.Interaction[Ganvas], member: discord.User) -> None:
        """Lift a ban."""
        _, say = await self.bot.begin(interaction, private=True)
        lifted = await self.bot.studio.policy.unban(guild_key(interaction.guild_id), member_of(member))
        name = member.mention
        text = say("{name} is no longer banned.", name=name) if lifted else say("{name} was not banned.", name=name)
        await interaction.edit_original_response(content=text)

    @app_commands.command(description="Remove an artwork made in this server.")
    @app_commands.describe(id="The artwork's id", reason="Why; kept in the log")
    async def remove(
        self,
        interaction: discord.Interaction[Ganvas],
        id: app_commands.Range[str, 1, 20],
        reason: app_commands.Range[str, 1, 200] | None = None,
    ) -> None:
        """Remove a work."""
        _, say = await self.bot.begin(interaction, private=True)
        gallery, by = self.bot.studio.gallery, member_of(interaction.user)
        art = await gallery.get(id, viewer=by, moderator=True)
        if art.guild != guild_key(interaction.guild_id):
            raise InvalidRequest(f"`{art.id}` was not made in this server.")
        await gallery.remove(art.id, by=by, moderator=True, reason=reason or "")
        await interaction.edit_original_response(content=say("`{id}` is deleted.", id=art.id))

    @app_commands.command(description="How the engine, the queue and the database are.")
    async def status(self, interaction: discord.Interaction[Ganvas]) -> None:
        """Show how the house is."""
        _, say = await self.bot.begin(interaction, private=True)
        status = await self.bot.studio.status()
        bans = await self.bot.studio.policy.bans(guild_key(interaction.guild_id))
        engine = status.engine.get("worker", "?") if status.engine else say("not reachable")
        rows = {
            say("Engine"): str(engine),
            say("Queue"): say(
                "{running} at work, {waiting} waiting", running=status.queue.running, waiting=status.queue.waiting
            ),
            say("Database"): "✓" if status.database_ok else "✗",
            say("Free disk"): f"{status.disk_free / 2**30:.1f} GiB",
            say("Last event from Discord"): f"{status.gap:.0f} s",
            say("Connection"): f"{self.bot.latency * 1000:.0f} ms, {self.bot.shard_count} shard(s)",
            say("Banned here"): ", ".join(f"<@{ban.member.id}>" for ban in bans) or "–",
        }
        embed = discord.Embed(title=say("Status"))
        for name, value in rows.items():
            embed.add_field(name=name, value=value[:1024])
        await interaction.edit_original_response(embed=embed)


async def setup(bot: Ganvas) -> None:
    """Add the feature."""
    await bot.add_cog(Admin(bot))
