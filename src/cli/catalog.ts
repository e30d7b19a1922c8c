/**
 * Every command: its name, what it is for, and the file that defines it, one line each. Only the file of the command
 * that was called is loaded: a command line is as quick as what it loads.
 */
import type { Define } from './commandform.ts'

export interface CatalogEntry {
  readonly name: string
  readonly summary: string
  readonly load: () => Promise<Define>
  /** For shells, not for people: no help lists it. */
  readonly hidden?: true
}

const entry = (name: string, summary: string, load: () => Promise<Define>): CatalogEntry => ({ name, summary, load })

export const catalog: readonly CatalogEntry[] = [
  entry('apply', 'Make the cluster as the manifests say.', async () => (await import('./write/apply.ts')).defineApply),
  entry(
    'delete',
    'Delete objects; ends when the processes behind them are gone.',
    async () => (await import('./write/delete.ts')).defineDelete,
  ),
  entry(
    'scale',
    'Change the number of replicas; nothing that runs is touched.',
    async () => (await import('./change/scale.ts')).defineScale,
  ),
  entry(
    'rollout',
    'How a change goes on: status, history, undo, restart, pause, resume.',
    async () => (await import('./change/rollout.ts')).defineRollout,
  ),
  entry('cordon', 'Place nothing new on a node.', async () => (await import('./change/cordon.ts')).defineCordon),
  entry(
    'uncordon',
    'Let a node take groups again; ends a drain.',
    async () => (await import('./change/cordon.ts')).defineUncordon,
  ),
  entry(
    'drain',
    'Move everything off a node, elsewhere first where it fits.',
    async () => (await import('./change/drain.ts')).defineDrain,
  ),
  entry(
    'diff',
    'What apply would change: exit 0 nothing, 1 something, above 1 an error.',
    async () => (await import('./write/diff.ts')).defineDiff,
  ),
  entry('edit', 'Edit an object in your editor.', async () => (await import('./write/edit.ts')).defineEdit),
  entry('patch', 'Change single fields of an object.', async () => (await import('./write/patch.ts')).definePatch),
  entry('label', 'Set and remove labels.', async () => (await import('./write/label.ts')).defineLabel),
  entry('annotate', 'Set and remove annotations.', async () => (await import('./write/annotate.ts')).defineAnnotate),
  entry(
    'taint',
    'Keep groups that do not tolerate it off a node.',
    async () => (await import('./write/taint.ts')).defineTaint,
  ),
  entry(
    'plan',
    'Would it fit, where, how fast, and why not otherwise. Nothing is written.',
    async () => (await import('./plan/plan.ts')).definePlan,
  ),
  entry(
    'get',
    'List objects: TYPE [NAME…], TYPE/NAME… or TYPE,TYPE.',
    async () => (await import('./get/get.ts')).defineGet,
  ),
  entry(
    'describe',
    'Tell objects whole, with their events: TYPE [NAME…] or TYPE/NAME…; a name may be cut short.',
    async () => (await import('./describe/describe.ts')).defineDescribe,
  ),
  entry(
    'logs',
    'The engine log of a shard, or of all shards of a group or deployment.',
    async () => (await import('./follow/logs.ts')).defineLogs,
  ),
  entry('wait', 'Wait until a condition holds.', async () => (await import('./follow/wait.ts')).defineWait),
  entry(
    'top',
    'What nodes use and models do at this moment: top nodes, top models.',
    async () => (await import('./follow/top.ts')).defineTop,
  ),
  entry('events', 'What happened.', async () => (await import('./get/events.ts')).defineEvents),
  entry(
    'sync',
    'What the cluster follows: get, now, suspend, resume, approve, history, diff.',
    async () => (await import('./sync/sync.ts')).defineSync,
  ),
  entry(
    'chat',
    'Talk with a model through the gateway; tokens per second at the end.',
    async () => (await import('./run/chat.ts')).defineChat,
  ),
  entry('explain', 'What a field means.', async () => (await import('./learn/explain.ts')).defineExplain),
  entry(
    'api-resources',
    'The types that there are.',
    async () => (await import('./learn/apiresources.ts')).defineApiResources,
  ),
  entry(
    'config',
    'Contexts of the config file: which server, which namespace.',
    async () => (await import('./config/config.ts')).defineConfig,
  ),
  entry(
    'join-token',
    'Tokens that let Macs join the cluster.',
    async () => (await import('./trust/jointoken.ts')).defineJoinToken,
  ),
  entry('user', 'People and what they may do.', async () => (await import('./trust/user.ts')).defineUser),
  entry(
    'api-key',
    'Keys of the programs that ask the gateway.',
    async () => (await import('./trust/apikey.ts')).defineApiKey,
  ),
  entry(
    'authority',
    'What signs the certificates: get, rotate, retire.',
    async () => (await import('./trust/authority.ts')).defineAuthority,
  ),
  entry('node', 'Let a node join anew.', async () => (await import('./trust/node.ts')).defineNode),
  entry(
    'completion',
    'What a shell needs to complete commands and names.',
    async () => (await import('./learn/completion.ts')).defineCompletion,
  ),
  {
    ...entry(
      'complete-words',
      'What may come next; the completion scripts ask it.',
      async () => (await import('./learn/completewords.ts')).defineCompleteWords,
    ),
    hidden: true,
  },
  entry(
    'version',
    'Versions of this program and of the server.',
    async () => (await import('./learn/version.ts')).defineVersion,
  ),
  entry(
    'server',
    'Run the control plane, with a gateway beside it.',
    async () => (await import('./run/server.ts')).defineServer,
  ),
  entry('gateway', 'Run an OpenAI gateway of its own.', async () => (await import('./run/gateway.ts')).defineGateway),
  entry(
    'agent',
    'Run the agent of this Mac. SIGTERM leaves its shards running.',
    async () => (await import('./run/agent.ts')).defineAgent,
  ),
  entry(
    'dev',
    'Run a server and agents on this machine; prints "ready" when every node is Ready. Ctrl-C stops everything.',
    async () => (await import('./run/dev.ts')).defineDev,
  ),
]
