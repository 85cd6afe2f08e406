"""An SFTP server of asyncssh for tests: port, directory, host key, user; the password is in PASSWORD.

With KEY, that public key logs in too, and the server says "ssh-rsa" where it accepts it, as some
servers do, whatever algorithm it was offered with.
"""
import asyncio, os, sys

import asyncssh
import asyncssh.auth

port, root, host_key, user = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def public_key_auth_supported(self):
        return "KEY" in os.environ

    def validate_public_key(self, username, key):
        return username == user and key == asyncssh.import_public_key(os.environ["KEY"])

    def validate_password(self, username, password):
        return username == user and password == os.environ["PASSWORD"]


if "KEY" in os.environ:
    send = asyncssh.auth._ServerPublicKeyAuth.send_packet

    def send_packet(self, kind, *args, **kwargs):
        if kind == asyncssh.auth.MSG_USERAUTH_PK_OK:
            args = (asyncssh.packet.String(b"ssh-rsa"),) + args[1:]
        return send(self, kind, *args, **kwargs)

    asyncssh.auth._ServerPublicKeyAuth.send_packet = send_packet


async def main():
    await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[host_key], server_factory=Server,
        sftp_factory=lambda chan: asyncssh.SFTPServer(chan, chroot=root), sftp_version=3)
    await asyncio.Event().wait()


asyncio.run(main())
