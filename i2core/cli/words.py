"""Texts of the command line in English and Chinese.

The texts of codes are in `Code.text`, in both languages; all others are here. Help texts are English.
"""

from __future__ import annotations

from typing import Any

from i2core.config.words import language

_WORDS: dict[str, tuple[str, str]] = {
    "error": ("error", "错误"),
    "next": ("next", "下一步"),
    "stopped": ("stopped", "停止"),
    "listing": ("listing", "列表"),
    "mirroring": ("mirroring", "镜像"),
    "replicating": ("replicating", "复制"),
    "abnormal": ("link lost, trying again", "异常"),
    "invalid": ("invalid", "失效"),
    "receiving": ("receiving", "接收"),
    "waiting": ("waiting", "等待"),
    "held": ("held", "已暂停"),
    "files": ("files", "个文件"),
    "listed": ("listed", "已列出"),
    "checked": ("checked", "已检查"),
    "sent": ("sent", "已发送"),
    "left": ("left", "剩余"),
    "captured": ("captured", "已捕获"),
    "applied": ("applied", "已应用"),
    "lag": ("lag", "延迟"),
    "mirror_done": (
        "{files} files ({bytes}) checked; {sent_files} sent ({sent_bytes}) in {seconds:.1f} s",
        "已检查 {files} 个文件（{bytes}）；已发送 {sent_files} 个（{sent_bytes}），用时 {seconds:.1f} 秒",
    ),
    "live": ("mirror done; replicating changes as they happen (Ctrl-C ends)", "镜像完成，正在实时复制（Ctrl-C 结束）"),
    "live_ended": (
        "ended: {captured} changes captured, {sent} records sent, {durable} durable on the replica",
        "已结束：捕获 {captured} 个变化，发送 {sent} 条记录，{durable} 条已在灾备机落盘",
    ),
    "behind": (
        "ended before the last changes were durable; the next run sends them",
        "结束时最后的变化尚未落盘；下次运行时补上",
    ),
    "held_at_end": (
        "ended while a mass delete was held; neither it nor any later change is on the replica",
        "结束时有大批删除被暂停；该删除及其后的变化均未到达灾备机",
    ),
    "doubtful_at_end": (
        "{count} objects are unverified; the next run compares them",
        "有 {count} 个对象未能确认与源一致；下次运行时比较",
    ),
    "absent": (
        "--exclude {path}: does not exist, so it excludes nothing now",
        "--exclude {path}：不存在，目前未排除任何内容",
    ),
    "skipped": ("skipped", "已跳过"),
    "skipped_more": ("and {more} more", "另有 {more} 个"),
    "no_output": ("error: the output cannot be written: {cause}", "错误：无法写出输出：{cause}"),
    "interrupted": ("interrupted; the next run resumes from here", "已中断；下次运行从此处继续"),
    "rule": ("rule", "规则"),
    "role": ("role", "角色"),
    "state": ("state", "状态"),
    "percent": ("done", "进度"),
    "bandwidth": ("bandwidth", "当前带宽"),
    "unlimited": ("unlimited", "无限制"),
    "code": ("code", "代码"),
    "seq": ("seq", "序号"),
    "durable": ("durable", "已落盘"),
    "lag_bytes": ("behind", "积压"),
    "spool": ("spool", "缓存"),
    "capture": ("capture", "捕获"),
    "cause": ("cause", "原因"),
    "doubtful": ("unverified", "待核实"),
    "named_in_log": ("see i2 node log --rule {rule}", "具体对象见 i2 node log --rule {rule}"),
    "work": ("work", "工作机"),
    "backup": ("backup", "灾备机"),
    "name": ("name", "名称"),
    "address": ("address", "地址"),
    "fingerprint": ("fingerprint", "指纹"),
    "no_rules": ("no rules here", "没有规则"),
    "no_peers": ("no peers here", "没有对端"),
    "console": ("console", "控制机"),
    "source": ("from", "来源"),
    "since": ("since", "自"),
    "from_config": ("config", "配置"),
    "from_enrolled": ("enrolled", "令牌配对"),
    "trusted": ("trusted", "受信任"),
    "unpaired": ("not paired", "未配对"),
    "overruled": ("overruled by the config", "被配置覆盖"),
    "revoked": ("revoked", "已撤销"),
    "started": ("{rule}: started", "{rule}：已启动"),
    "runs": ("{rule}: runs already ({state})", "{rule}：已在运行（{state}）"),
    "waits": (
        "{rule}: its bandwidth limit is 0; it starts by itself when the limit is raised",
        "{rule}：带宽限制为 0；解除后自行启动",
    ),
    "stopped_rule": ("{rule}: stopped", "{rule}：已停止"),
    "forgotten": ("{rule}: forgotten, its targets are free", "{rule}：已遗忘，其目标目录可供其他规则使用"),
    "nothing_known": ("{rule}: never received here", "{rule}：此处从未接收过该规则"),
    "handed_over": (
        "{rule}: {heir} may take over its targets",
        "{rule}：{heir} 可以接管其目标目录",
    ),
    "released": ("{rule}: released, the held delete continues", "{rule}：已放行，继续执行删除"),
    "nothing_held": ("{rule}: nothing was held", "{rule}：没有暂停的删除"),
    "number": ("number", "编号"),
    "task": ("task", "任务"),
    "until": ("until", "至"),
    "asked": ("asked for", "请求"),
    "progress": ("progress", "进展"),
    "result": ("result", "结果"),
    "no_tasks": ("no tasks here", "没有任务"),
    "task_recovery": ("recovery", "恢复"),
    "task_running": ("running", "进行中"),
    "task_done": ("done", "完成"),
    "task_failed": ("failed", "失败"),
    "task_cancelled": ("cancelled", "已取消"),
    "task_interrupted": ("interrupted", "被中断"),
    "cancel_asked": ("task {number}: asked to end", "任务 {number}：已要求结束"),
    "had_ended": ("task {number}: has ended already", "任务 {number}：早已结束"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "demo_begin": (
        "Two nodes on this host, a work node and a backup node, joined by TLS with pinned keys. Data: {place}.",
        "本机两个节点：工作机与灾备机，经固定指纹的 TLS 相连。全部数据位于 {place}。",
    ),
    "demo_tree": ("Created a tree of {files} files to protect.", "已生成 {files} 个待保护的文件。"),
    "demo_mirror": (
        "First mirror done: {files} files in {seconds:.1f} s. Now a workload changes them for {span:.0f} s.",
        "首次镜像完成：{files} 个文件，用时 {seconds:.1f} 秒。现在负载将持续修改 {span:.0f} 秒。",
    ),
    "demo_drain": ("The workload has stopped; waiting for the last changes.", "负载已停止，等待最后的变化到达。"),
    "demo_compare": ("Comparing both trees in full.", "正在完整比较两端目录树。"),
    "demo_equal": (
        "EQUAL: {files} entries, {bytes}; content, names, owners, modes, times and links are the same on both sides.",
        "一致：{files} 个条目，{bytes}；两端内容、名称、属主、权限、时间和链接完全相同。",
    ),
    "demo_differ": ("DIFFERENT in {count} places:", "有 {count} 处不一致："),
    "demo_database": (
        "database: integrity check {integrity}; {source_rows} rows on the work node, {replica_rows} on the backup node",
        "数据库：完整性检查 {integrity}；工作机 {source_rows} 行，灾备机 {replica_rows} 行",
    ),
    "demo_workload": (
        "workload: {total} operations ({detail})",
        "负载：{total} 次操作（{detail}）",
    ),
    "demo_figures": (
        "replication: {captured} changes captured, {records} records applied; "
        "lag until durable: median {median:.0f} ms, worst {worst:.0f} ms",
        "复制：捕获 {captured} 个变化，应用 {records} 条记录；落盘延迟：中位 {median:.0f} 毫秒，最大 {worst:.0f} 毫秒",
    ),
    "demo_ended": (
        "Ended early; both nodes are stopped and everything is removed.",
        "提前结束；两个节点已停止，数据已清除。",
    ),
    "operations": ("operations", "操作"),
    "selftest_kept": (
        "{histories} histories ({hours} simulated hours, {steps} steps): every guarantee was kept; "
        "{rate} histories per CPU hour",
        "{histories} 个历史（模拟 {hours} 小时，{steps} 步）：全部保证均成立；每 CPU 小时 {rate} 个历史",
    ),
    "selftest_failed": (
        "{histories} histories ({hours} simulated hours, {steps} steps): {violations} broke a guarantee; "
        "{rate} histories per CPU hour",
        "{histories} 个历史（模拟 {hours} 小时，{steps} 步）：{violations} 个违背保证；每 CPU 小时 {rate} 个历史",
    ),
    "selftest_seed": (
        "seed {seed} broke a guarantee; play it again with: i2 selftest --replay {seed}",
        "种子 {seed} 违背保证；重放：i2 selftest --replay {seed}",
    ),
    "doctor_ok": ("ok", "正常"),
    "doctor_no": ("no", "不可用"),
}


def words(key: str, /, **values: Any) -> str:
    """The line `key` in the user's language, its fields filled in from `values`."""
    en, zh = _WORDS[key]
    return (zh if language() == "zh" else en).format(**values)
