"""Codes of all that can be reported: numbers, levels and texts in English and Chinese.

3519-3591 are the numbers administrators know from the manual; 3600 and up are ours. A number is never used again for
another meaning. Only codes that can occur stand here.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Level(enum.Enum):
    """How bad it is: `INFO` mends itself, `ERROR` needs a look, `FATAL` stops the node."""

    INFO = "info"
    ERROR = "error"
    FATAL = "fatal"


class CodeText(NamedTuple):
    """The texts of one code: what happened, and what to do next."""

    level: Level
    en: str
    zh: str
    next_en: str
    next_zh: str


class Code(enum.IntEnum):
    """What happened, as a stable number; `text` has the words."""

    RULE_RESTARTED = 3519
    MIRROR_DONE = 3520
    NETWORK = 3522
    RULE_UNKNOWN = 3529
    FILE_CHECKSUM = 3530
    VERSION_MISMATCH = 3546
    SEQUENCE = 3554
    REPLICATE_FILE = 3555
    OPEN_SOURCE = 3559
    READ_SOURCE = 3560
    OPEN_REPLICA = 3563
    MESSAGE_TYPE = 3565
    ILLEGAL_PATH = 3571
    DUPLICATE_TASK = 3572
    SAVE_ATTRIBUTES = 3574
    COMPRESS = 3581
    DECOMPRESS = 3582
    ENCRYPT = 3586
    DECRYPT = 3587
    LOCKED = 3588
    READ_ATTRIBUTES = 3591
    USAGE = 3600
    INTERNAL = 3601
    PEER_REFUSED = 3602
    MASS_DELETE_HELD = 3603
    CAPTURE_LOST = 3604
    CAPTURE_UNFIT = 3605
    REPLICA_FULL = 3606
    SOURCE_GONE = 3607
    ATTRIBUTE_UNSUPPORTED = 3608
    PLUGIN_BROKEN = 3609
    WORK_FULL = 3610

    @property
    def text(self) -> CodeText:
        """Level and words of this code."""
        return _TEXTS[self]


_I, _E, _F = Level.INFO, Level.ERROR, Level.FATAL
_TEXTS: dict[Code, CodeText] = {
    Code.RULE_RESTARTED: CodeText(_I, "rule restarted", "复制规则重新启动", "nothing to do", "无需处理"),
    Code.MIRROR_DONE: CodeText(_I, "mirror done", "复制规则重新启动完成，镜像完成", "nothing to do", "无需处理"),
    Code.NETWORK: CodeText(
        _I, "network connection error", "网络连接错误", "check the link and the peer's log", "检查网络以及对端日志"
    ),
    Code.RULE_UNKNOWN: CodeText(
        _E, "rule not known here", "没有找到对应的规则信息", "check the rule's name on both nodes", "检查两端的规则名称"
    ),
    Code.FILE_CHECKSUM: CodeText(
        _E,
        "file differs from what was sent",
        "文件 Checksum 错误",
        "it is compared again by itself",
        "系统会自动重新比较",
    ),
    Code.VERSION_MISMATCH: CodeText(
        _E,
        "versions of both nodes do not fit",
        "工作机和灾备机软件版本不兼容",
        "install the same version on both",
        "两端安装相同版本",
    ),
    Code.SEQUENCE: CodeText(
        _I, "records arrived out of sequence", "灾备机收到的数据包序号不对", "it resumes by itself", "系统可以自我恢复"
    ),
    Code.REPLICATE_FILE: CodeText(
        _E, "file could not be replicated", "复制文件错误", "check the replica's file system", "检查灾备机文件系统"
    ),
    Code.OPEN_SOURCE: CodeText(
        _E,
        "cannot open on the work node",
        "工作机镜像过程中打开文件失败",
        "check the file's permissions",
        "检查文件权限",
    ),
    Code.READ_SOURCE: CodeText(
        _E,
        "cannot read file or directory",
        "读取文件或者目录失败",
        "check the work node's file system",
        "检查工作机文件系统",
    ),
    Code.OPEN_REPLICA: CodeText(
        _E, "cannot open on the backup node", "备机打开文件失败", "check the replica's permissions", "检查灾备目录权限"
    ),
    Code.MESSAGE_TYPE: CodeText(
        _E,
        "malformed or unexpected message",
        "错误的消息类型",
        "check both nodes' versions and link",
        "检查两端版本和网络",
    ),
    Code.ILLEGAL_PATH: CodeText(_I, "illegal path", "非法路径", "choose a path that is allowed", "选择允许的路径"),
    Code.DUPLICATE_TASK: CodeText(
        _E, "the same task was submitted twice", "同一任务多次提交", "stop the other one first", "先停止另一个任务"
    ),
    Code.SAVE_ATTRIBUTES: CodeText(
        _E,
        "cannot save file attributes",
        "保存文件属性信息失败",
        "check the replica's file system",
        "检查灾备机文件系统",
    ),
    Code.COMPRESS: CodeText(_E, "compress error", "压缩错误", "report it with the log", "请附日志报告问题"),
    Code.DECOMPRESS: CodeText(_E, "decompress error", "解压错误", "check both nodes' versions", "检查两端版本"),
    Code.ENCRYPT: CodeText(_E, "encrypt error", "加密错误", "check the key", "检查密钥"),
    Code.DECRYPT: CodeText(
        _E, "decrypt error", "解密错误", "check that both nodes have the same key", "检查两端密钥一致"
    ),
    Code.LOCKED: CodeText(
        _I,
        "the replica is locked to another owner",
        "任务被锁定",
        "use the node that owns it now",
        "使用当前拥有者节点",
    ),
    Code.READ_ATTRIBUTES: CodeText(
        _E, "cannot read file attributes", "读取文件属性失败", "check the file's permissions", "检查文件权限"
    ),
    Code.USAGE: CodeText(_E, "wrong usage", "用法错误", "correct it and try again", "更正后重试"),
    Code.INTERNAL: CodeText(_E, "internal error", "内部错误", "report it with the log", "请附日志报告问题"),
    Code.PEER_REFUSED: CodeText(
        _E, "peer not trusted", "对端不受信任", "check names and fingerprints on both nodes", "检查两端名称和指纹"
    ),
    Code.MASS_DELETE_HELD: CodeText(
        _E,
        "mass delete held",
        "大量删除已暂停",
        "if it is meant: i2 rule release RULE",
        "若确属本意，请执行 i2 rule release 规则名",
    ),
    Code.CAPTURE_LOST: CodeText(
        _I, "changes were lost, comparing again", "变化事件丢失，正在重新比较", "nothing to do", "无需处理"
    ),
    Code.CAPTURE_UNFIT: CodeText(
        _E, "capture does not work here", "捕获方式不可用", "choose another capture, or auto", "选择其他捕获方式或 auto"
    ),
    Code.REPLICA_FULL: CodeText(
        _E, "disk full on the backup node", "灾备机磁盘已满", "free space, then start the rule", "释放空间后启动规则"
    ),
    Code.SOURCE_GONE: CodeText(
        _E,
        "a source root is missing",
        "源目录不存在",
        "mount or restore it, then start the rule",
        "恢复源目录后启动规则",
    ),
    Code.ATTRIBUTE_UNSUPPORTED: CodeText(
        _I,
        "an attribute cannot be set on the replica",
        "灾备端不支持某类属性",
        "run the backup node as root, or accept it",
        "以 root 运行灾备机或忽略",
    ),
    Code.PLUGIN_BROKEN: CodeText(
        _E, "plugin cannot be used", "插件无法使用", "see i2 plugins list", "参见 i2 plugins list"
    ),
    Code.WORK_FULL: CodeText(
        _E, "disk full on the work node", "工作机磁盘已满", "free space, then start the rule", "释放空间后启动规则"
    ),
}
