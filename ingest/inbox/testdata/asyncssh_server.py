"""An SFTP server of asyncssh for tests: port, directory, host key, user; the password is in PASSWORD."""
import asyncio, os, sys

import asyncssh

port, root, host_key, user = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def password_auth_supported(self):
        return True

    def validate_password(self, username, password):
        return username == user and password == os.environ["PASSWORD"]


async def main():
    await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[host_key], server_factory=Server,
        sftp_factory=lambda chan: asyncssh.SFTPServer(chan, chroot=root), sftp_version=3)
    await asyncio.Event().wait()


asyncio.run(main())
