"""An SFTP server of paramiko for tests: port, directory, host key, user; the password is in PASSWORD."""
import os, socket, sys, threading

import paramiko

port, root, host_key, user = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


class Server(paramiko.ServerInterface):
    def check_auth_password(self, username, password):
        right = username == user and password == os.environ["PASSWORD"]
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def get_allowed_auths(self, username):
        return "password"


class Handle(paramiko.SFTPHandle):
    def stat(self):
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


class Files(paramiko.SFTPServerInterface):
    def local(self, path):
        return root + self.canonicalize(path)

    def run(self, f, *args):
        try:
            f(*args)
        except OSError as e:
            return paramiko.SFTPServer.convert_errno(e.errno)
        return paramiko.SFTP_OK

    def list_folder(self, path):
        try:
            local = self.local(path)
            return [paramiko.SFTPAttributes.from_stat(os.lstat(os.path.join(local, n)), n) for n in os.listdir(local)]
        except OSError as e:
            return paramiko.SFTPServer.convert_errno(e.errno)

    def stat(self, path):
        try:
            return paramiko.SFTPAttributes.from_stat(os.stat(self.local(path)))
        except OSError as e:
            return paramiko.SFTPServer.convert_errno(e.errno)

    def lstat(self, path):
        try:
            return paramiko.SFTPAttributes.from_stat(os.lstat(self.local(path)))
        except OSError as e:
            return paramiko.SFTPServer.convert_errno(e.errno)

    def open(self, path, flags, attr):
        try:
            fd = os.open(self.local(path), flags, 0o644)
        except OSError as e:
            return paramiko.SFTPServer.convert_errno(e.errno)
        mode = "rb" if flags & (os.O_WRONLY | os.O_RDWR) == 0 else "wb"
        handle = Handle(flags)
        handle.readfile = handle.writefile = os.fdopen(fd, mode)
        return handle

    def remove(self, path):
        return self.run(os.remove, self.local(path))

    def rename(self, old, new):
        if os.path.lexists(self.local(new)):
            return paramiko.SFTP_FAILURE
        return self.run(os.rename, self.local(old), self.local(new))

    def posix_rename(self, old, new):
        return self.run(os.rename, self.local(old), self.local(new))

    def mkdir(self, path, attr):
        return self.run(os.mkdir, self.local(path))

    def rmdir(self, path):
        return self.run(os.rmdir, self.local(path))


def serve(conn):
    try:
        transport = paramiko.Transport(conn)
        transport.add_server_key(paramiko.RSAKey.from_private_key_file(host_key))
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
        transport.start_server(server=Server())
    except Exception as e:  # a client that hung up
        print(e, file=sys.stderr)


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(100)
while True:
    client, _ = listener.accept()
    threading.Thread(target=serve, args=(client,), daemon=True).start()
