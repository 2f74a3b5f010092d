/**
 * System call numbers, [x86-64, aarch64]; null where the machine has no such call. From the kernel's unistd tables
 * (arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h), which never change a number.
 */
import type { Arch } from "./libc.ts";

/** What no service needs: refused whatever the arguments. Grouped by what an intruder would want each for. */
export const REFUSED = {
  // Another view of the file system than the one that Landlock was given; and handles that pass by paths altogether.
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  move_mount: [429, 429],
  open_tree: [428, 428],
  mount_setattr: [442, 442],
  statmount: [457, 457],
  listmount: [458, 458],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  mknod: [133, null],
  mknodat: [259, 33],
  fanotify_init: [300, 262],
  // Path calls that Landlock does not judge: with a shared uid they would reach the neighbours' files, and a home's.
  // What is open can still be changed (fchmod, ftruncate, futimes), and that Landlock has judged. `truncate` it judges from ABI 3 on.
  truncate: [76, 45],
  chmod: [90, null],
  fchmodat: [268, 53],
  fchmodat2: [452, 452],
  chown: [92, null],
  lchown: [94, null],
  fchownat: [260, 54],
  setxattr: [188, 5],
  lsetxattr: [189, 6],
  removexattr: [197, 14],
  lremovexattr: [198, 15],
  // Other processes: their memory, descriptors, priorities, and memory shared with them.
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  process_madvise: [440, 440],
  process_mrelease: [448, 448],
  kcmp: [312, 272],
  pidfd_open: [434, 434],
  pidfd_getfd: [438, 438],
  pidfd_send_signal: [424, 424],
  rt_sigqueueinfo: [129, 138],
  rt_tgsigqueueinfo: [297, 240],
  tkill: [200, 130],
  setpriority: [141, 140],
  ioprio_set: [251, 30],
  sched_setscheduler: [144, 119],
  sched_setparam: [142, 118],
  sched_setattr: [314, 274],
  sched_setaffinity: [203, 122],
  migrate_pages: [256, 238],
  move_pages: [279, 239],
  shmget: [29, 194],
  shmat: [30, 196],
  semget: [64, 190],
  msgget: [68, 186],
  mq_open: [240, 180],
  mq_unlink: [241, 181],
  // New namespaces bring privileges, and with them kernel code that is not meant for strangers.
  unshare: [272, 97],
  setns: [308, 268],
  // Other identities. The drop is done; nothing changes them again.
  setuid: [105, 146],
  setgid: [106, 144],
  setreuid: [113, 145],
  setregid: [114, 143],
  setresuid: [117, 147],
  setresgid: [119, 149],
  setfsuid: [122, 151],
  setfsgid: [123, 152],
  setgroups: [116, 159],
  capset: [126, 91],
  // Code and programs from elsewhere. Files without a name pass by every rule on files.
  fork: [57, null],
  vfork: [58, null],
  execve: [59, 221],
  memfd_create: [319, 279],
  memfd_secret: [447, 447],
  uselib: [134, null],
  // Parts of the kernel where many of its holes were found.
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  personality: [135, 92],
  lookup_dcookie: [212, 18],
  modify_ldt: [154, null],
  vmsplice: [278, 75],
  // The machine itself.
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  create_module: [174, null],
  query_module: [178, null],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  acct: [163, 89],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  iopl: [172, null],
  ioperm: [173, null],
  _sysctl: [156, null],
  nfsservctl: [180, 42],
  syslog: [103, 116],
  vhangup: [153, 58],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  clock_adjtime: [305, 266],
  adjtimex: [159, 171],
} as const satisfies Record<string, readonly [number, number | null]>;

/** Calls that are judged by their arguments, and those that the launcher makes itself. */
export const JUDGED = {
  clone: [56, 220],
  clone3: [435, 435],
  execveat: [322, 281],
  kill: [62, 129],
  tgkill: [234, 131],
  prlimit64: [302, 261],
  prctl: [157, 167],
  ioctl: [16, 29],
  socket: [41, 198],
  socketpair: [53, 199],
  bind: [49, 200],
  listen: [50, 201],
  sendto: [44, 206],
  sendmsg: [46, 211],
  sendmmsg: [307, 269],
} as const satisfies Record<string, readonly [number, number]>;

/** Calls that the launcher makes by number, since not every C library of the machines we meet has a function for them. */
export const MADE = {
  seccomp: [317, 277],
  landlock_create_ruleset: [444, 444],
  landlock_add_rule: [445, 445],
  landlock_restrict_self: [446, 446],
  close_range: [436, 436],
  execveat: [322, 281],
  capset: [126, 91],
} as const satisfies Record<string, readonly [number, number]>;

/** The first number that this page does not know: newer calls are answered as an older kernel would, with ENOSYS. */
export const UNKNOWN_FROM = 463;

/** Picks the number of a call on this machine; null where it has none. */
export const numberOf = <T extends number | null>(pair: readonly [number, T], arch: Arch): number | T =>
  pair[arch === "x64" ? 0 : 1];
