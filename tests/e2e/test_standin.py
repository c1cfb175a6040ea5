"""The stand-in for Discord, checked with the real client library: what Discord allows passes, the rest is refused."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import discord
import pytest
import yarl
from discord import app_commands
from discordstandin import MIB, TOKEN, ClientRefuses, InteractionFailed, StandIn
from discordstandin.world import Channel, Guild


class Client(discord.AutoShardedClient):
    """A small bot that does right and, on demand, wrong things."""

    def __init__(self) -> None:
        intents = discord.Intents.none()
        intents.guilds = intents.guild_messages = intents.guild_reactions = intents.dm_reactions = True
        super().__init__(intents=intents, guild_ready_timeout=0.1, max_messages=None)
        self.tree = app_commands.CommandTree(self)
        self.reactions: list[str] = []
        self.interaction: discord.Interaction | None = None
        self.tree.error(self._no_traceback)
        commands = (self.echo, self.slow, self.picture, self.window)
        for function in commands:
            command: app_commands.Command[Any, ..., None] = app_commands.Command(
                name=function.__name__, description="Try.", callback=function
            )
            self.tree.add_command(command)
        self.tree.add_command(app_commands.ContextMenu(name="Quote", callback=self.quote))

    async def _no_traceback(self, interaction: discord.Interaction, error: app_commands.AppCommandError) -> None:
        self.error = getattr(error, "original", error)

    async def setup_hook(self) -> None:
        await self.tree.sync()

    async def echo(self, interaction: discord.Interaction, words: app_commands.Range[str, 1, 20]) -> None:
        button: discord.ui.Button[Any] = discord.ui.Button(label="Again", custom_id="again")
        view = discord.ui.View(timeout=None)
        view.add_item(button)
        button.callback = self.again  # type: ignore[method-assign]
        await interaction.response.send_message(words, view=view)

    async def again(self, interaction: discord.Interaction) -> None:
        await interaction.response.edit_message(content="pressed")

    async def slow(self, interaction: discord.Interaction) -> None:
        await asyncio.sleep(3.2)
        await interaction.response.send_message("too late")

    async def picture(self, interaction: discord.Interaction, photo: discord.Attachment) -> None:
        self.interaction = interaction
        await interaction.response.defer(thinking=True)
        data = await photo.read()
        file = discord.File(io.BytesIO(data[::-1]), "back.bin", description="backwards")
        await interaction.edit_original_response(content="done", attachments=[file])

    async def window(self, interaction: discord.Interaction) -> None:
        modal = discord.ui.Modal(title="Ask", custom_id="ask")
        field: discord.ui.TextInput[Any] = discord.ui.TextInput(custom_id="seed")
        modal.add_item(discord.ui.Label(text="Seed", component=field))

        async def on_submit(second: discord.Interaction) -> None:
            await second.response.send_message(f"seed {field.value}", ephemeral=True)

        modal.on_submit = on_submit  # type: ignore[method-assign]
        await interaction.response.send_modal(modal)

    async def quote(self, interaction: discord.Interaction, message: discord.Message) -> None:
        await interaction.response.send_message(f"> {message.content}")

    async def on_raw_reaction_add(self, event: discord.RawReactionActionEvent) -> None:
        self.reactions.append(f"+{event.emoji}{event.burst:d}")

    async def on_raw_reaction_remove(self, event: discord.RawReactionActionEvent) -> None:
        self.reactions.append(f"-{event.emoji}{event.burst:d}")


@pytest.fixture
async def standin() -> AsyncIterator[StandIn]:
    async with StandIn() as server:
        yield server


@pytest.fixture
async def guild(standin: StandIn) -> Guild:
    return standin.guild("Atelier")


@pytest.fixture
async def room(standin: StandIn, guild: Guild) -> Channel:
    return standin.channel(guild, "studio")


@pytest.fixture
async def client(standin: StandIn, room: Channel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    monkeypatch.setattr(discord.http.Route, "BASE", standin.url + "/api/v10")
    gateway = yarl.URL(standin.url.replace("http", "ws") + "/gateway")
    monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", gateway)
    async with Client() as bot:
        task = asyncio.create_task(bot.start(TOKEN))
        await standin.wait(lambda: task.done() or (standin.connected and standin.commands), within=5)
        yield bot
        await bot.close()
        await task


async def test_a_command_a_button_and_a_menu(standin: StandIn, client: Client, guild: Guild, room: Channel) -> None:
    ada = standin.person("Ada", guild)
    answer = await ada.slash(room, "echo", words="hello")
    assert answer.text == "hello"
    await ada.press(answer.message, "Again")
    assert answer.text == "pressed"
    spoken = await ada.say(room, "look here")
    assert (await ada.menu(spoken, "Quote")).text == "> look here"
    assert standin.violations == []


async def test_files_go_both_ways(standin: StandIn, client: Client, guild: Guild, room: Channel) -> None:
    ada = standin.person("Ada", guild)
    answer = await ada.slash(room, "picture", photo=("a.bin", b"abc"))
    message = await answer.until("done", files=1)
    assert (message.attachments[0].data, message.attachments[0].description) == (b"cba", "backwards")


async def test_a_window_is_filled_in(standin: StandIn, client: Client, guild: Guild, room: Channel) -> None:
    ada = standin.person("Ada", guild)
    opened = await ada.slash(room, "window")
    answer = await ada.submit(opened, seed="7")
    assert answer.text == "seed 7"
    assert answer.message.ephemeral


async def test_an_answer_after_three_seconds_is_refused(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    with pytest.raises(InteractionFailed):
        await standin.person("Ada", guild).slash(room, "slow")
    await standin.wait(lambda: standin.violations)
    assert "10062" not in standin.violations[0] and "Unknown interaction" in standin.violations[0]


async def test_a_token_dies_after_fifteen_minutes(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    answer = await standin.person("Ada", guild).slash(room, "picture", photo=("a.bin", b"abc"))
    message = await answer.until("done")
    standin.advance(minutes=15.1)
    assert client.interaction is not None
    with pytest.raises(discord.HTTPException) as caught:
        await client.interaction.edit_original_response(content="more")
    assert (caught.value.status, caught.value.code) == (401, 50027)
    channel = client.get_partial_messageable(room.id)
    await channel.get_partial_message(message.id).edit(content="through the channel")
    assert message.content == "through the channel"


async def test_sizes_permissions_and_bodies_are_enforced(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    channel = client.get_partial_messageable(room.id)
    with pytest.raises(discord.HTTPException) as caught:
        await channel.send(file=discord.File(io.BytesIO(bytes(10 * MIB + 1)), "big.bin"))
    assert (caught.value.status, caught.value.code) == (413, 40005)
    mute = standin.channel(guild, "mute", bot_lacks=1 << 11)
    with pytest.raises(discord.Forbidden) as forbidden:
        await client.get_partial_messageable(mute.id).send("hello")
    assert forbidden.value.code == 50013
    with pytest.raises(discord.HTTPException) as wrong:
        await channel.send("x" * 2001)
    assert wrong.value.code == 50035
    view = discord.ui.View(timeout=None)
    view.add_item(discord.ui.Button(label="1", custom_id="same"))
    view.add_item(discord.ui.Button(label="2", custom_id="same"))
    with pytest.raises(discord.HTTPException, match="duplicated"):
        await channel.send(view=view)
    with pytest.raises(discord.HTTPException) as empty:
        await channel.send("")
    assert empty.value.code == 50006


async def test_the_same_nonce_makes_one_message(standin: StandIn, client: Client, room: Channel) -> None:
    channel = client.get_partial_messageable(room.id)
    first = await channel.send("once", nonce="n1")
    again = await channel.send("once", nonce="n1")
    assert first.id == again.id
    standin.advance(minutes=6)  # Discord remembers a nonce for minutes only
    assert (await channel.send("once", nonce="n1")).id != first.id


async def test_reactions_of_both_kinds_with_their_lists(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    message = await client.get_partial_messageable(room.id).send("vote")
    mine = room.messages[message.id]
    people = [standin.person(f"P{i}", guild) for i in range(103)]
    for person in people:
        await person.react(mine, "❤️")
    await people[0].react(mine, "❤️", burst=True)
    await people[0].unreact(mine, "❤️")
    await standin.wait(lambda: len(client.reactions) == 105)
    assert client.reactions[-2:] == ["+❤️1", "-❤️0"]
    fetched = await message.fetch()
    normal = [u.id async for u in fetched.reactions[0].users(type=discord.ReactionType.normal)]
    burst = [u.id async for u in fetched.reactions[0].users(type=discord.ReactionType.burst)]
    assert sorted(normal) == sorted(p.id for p in people[1:])
    assert burst == [people[0].id]


async def test_a_cut_socket_resumes_and_may_repeat_events(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    mine = room.messages[(await client.get_partial_messageable(room.id).send("vote")).id]
    ada = standin.person("Ada", guild)
    await ada.react(mine, "❤️")
    await standin.wait(lambda: client.reactions == ["+❤️0"])
    standin.replay_extra = 1
    await standin.drop()
    await ada.unreact(mine, "❤️")  # while nobody listens
    await standin.wait(lambda: standin.resumes == 1)
    await standin.wait(lambda: client.reactions == ["+❤️0", "+❤️0", "-❤️0"])
    await standin.invalidate()
    await standin.wait(lambda: standin.identifies == 2)


async def test_too_many_requests_and_faults(standin: StandIn, client: Client, room: Channel) -> None:
    channel = client.get_partial_messageable(room.id)
    standin.fail("POST", "/messages$", 429, retry_after=0.05)
    standin.fail("POST", "/messages$", 500)
    assert (await channel.send("in the end")).content == "in the end"
    asked = [path for method, path in standin.requests if path.endswith("/messages")]
    assert len(asked) == 3


async def test_a_person_cannot_do_what_the_client_forbids(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    ada = standin.person("Ada", guild)
    with pytest.raises(ClientRefuses, match="not registered"):
        await ada.slash(room, "dance")
    with pytest.raises(ClientRefuses, match="no option"):
        await ada.slash(room, "echo", words="a", loud=True)
    with pytest.raises(ClientRefuses, match="needs words"):
        await ada.slash(room, "echo")


async def test_an_outsider_reads_only_what_the_platform_shows(
    standin: StandIn, client: Client, guild: Guild, room: Channel
) -> None:
    ada = standin.person("Ada", guild)
    spoken = await ada.say(room, "secret")
    fetched = await client.get_partial_messageable(room.id).fetch_message(spoken.id)
    assert fetched.content == ""


async def test_pictures_tell_their_size_and_links_expire(standin: StandIn, client: Client, room: Channel) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (7, 5)).save(buffer, "PNG")
    channel = client.get_partial_messageable(room.id)
    message = await channel.send(file=discord.File(io.BytesIO(buffer.getvalue()), "a.png"))
    attachment = message.attachments[0]
    assert (attachment.width, attachment.height) == (7, 5)
    assert await attachment.read() == buffer.getvalue()
    standin.advance(minutes=60 * 25)
    with pytest.raises(discord.Forbidden):
        await attachment.read()
