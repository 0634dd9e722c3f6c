# 092 what only the administrator may do
# tries: 27
# verdict: ok
import errno
from attack import REFUSED, refused
NO = REFUSED + (errno.ENOSYS,)
calls = {"reboot": 169, "kexec_load": 246, "kexec_file_load": 320,
         "init_module": 175, "finit_module": 313, "delete_module": 176,
         "create_module": 174, "swapon": 167, "swapoff": 168, "acct": 163,
         "quotactl": 179, "quotactl_fd": 443, "sethostname": 170,
         "setdomainname": 171, "syslog": 103, "lookup_dcookie": 212,
         "vhangup": 153, "add_key": 248, "request_key": 249, "keyctl": 250,
         "nfsservctl": 180, "_sysctl": 156, "name_to_handle_at": 303,
         "open_by_handle_at": 304, "move_pages": 279, "migrate_pages": 256,
         "process_mrelease": 448, "lsm_set_self_attr": 460}
for name, number in calls.items():
    arguments = (0xfee1dead, 672274793, 0x1234567, 0) \
        if name == "reboot" else (b"x", 1, 0, 0)
    refused(name, NO, number, *arguments)
