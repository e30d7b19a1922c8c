/** What to do about a first cause: one sentence for people, by its reason and by what the engine said. */
import type { FirstCause } from '../api/shardgroup.ts'

/** The first whose pattern is found in message or log lines counts, whatever the reason. */
const byWords: readonly (readonly [RegExp, string])[] = [
  [
    /cannot allocate|out of memory|insufficient memory|bad_alloc|unable to allocate|kIOGPUCommandBufferCallbackErrorOutOfMemory/i,
    'the engine got no memory: lower serving.contextTokens or serving.concurrency, take more quantised weights, or free memory on the node',
  ],
  [
    /address already in use|EADDRINUSE/i,
    'a port of the rank is taken: see what listens in the --port-range of the agent, or give the agent another one',
  ],
  [
    /Couldn.t connect|the other ranks? did not come|Failed to connect to/,
    'the ranks did not find each other: see that the nodes of the group reach one another',
  ],
  [
    /does not support pipelining|not supported|unsupported/i,
    'the engine cannot run this model so: choose another parallelism.strategy or engine.name',
  ],
  [
    /missing .*(parameters|shard|file)|no such file|not found|corrupt|digest/i,
    'the files of the model are not whole: remove its folder on the node, so that it is fetched again, or put the right files there',
  ],
]

const byReason: Readonly<Record<string, string>> = {
  CanaryFailed: 'the engine answered no short completion while idle: look at its log; it is restarted by itself',
  EngineFrozen:
    'the process of the engine stood still: look at the node (swapping, a debugger, a wedged GPU); it is restarted by itself',
  EngineNotStarted: 'the engine is not installed on the node as the agent expects it: run `npm run setup` there',
  EngineStalled: 'the engine made no progress: look at its log and at the links of the gang; it is restarted by itself',
  EngineStuck: 'the engine took requests and answered none: look at its log; it is restarted by itself',
  EngineUnsupported: 'the installed engine lacks what this agent needs: run `npm run setup` on the node',
  LaunchRefused: 'the engine takes no such arguments: correct spec.engine.args of the deployment',
  MemoryPressure:
    'the node ran out of memory: see what else runs there, raise spec.systemReserve of the Node, or lower serving.contextTokens',
  ModelDigestMismatch: 'the node holds other files under the same name: put the same files on every node',
  ModelInvalid:
    'the files of the model are not whole: remove its folder on the node, so that it is fetched again, or put the right files there',
  ModelNotPresent: 'put the model into the models folder of the node, or name a source that it can fetch',
  PrepareFailed: 'the agent could not take ports or write its folder: look at its log and at --port-range',
  ShardDeleted: 'somebody deleted a shard of the group; nothing need be done',
  ShardGone: 'somebody deleted a shard of the group; nothing need be done',
  ShardhostFailed: 'the agent could not open the door of the shard: look at its log and at --port-range',
  ShardhostLost:
    'the process beside the engine was killed, or the machine restarted; nothing need be done unless it happens again',
  ShardhostSilent: 'the process beside the engine stood still: look at the node; it is restarted by itself',
  StartDeadline:
    'the engine was not ready in time: look at its log; a slow disk or link needs a smaller model or more nodes',
  StartWindowMissed:
    'the agent heard too late of the start: look at the clock and the load of the node; it is tried again by itself',
  WorldMismatch: 'the ranks did not find each other: see that the nodes of the group reach one another',
}

/** Never empty. */
export function remedyOf(cause: FirstCause): string {
  const text = [cause.message, ...(cause.lastLogLines ?? [])].join('\n')
  const words = byWords.find(([pattern]) => pattern.test(text))?.[1]
  if (words !== undefined) return words
  if (cause.signal === 'SIGKILL')
    return 'something killed the engine: on macOS and Linux mostly the system, for want of memory; see the log of the system'
  return byReason[cause.reason] ?? `see what the engine said: mctl logs ${cause.shard}`
}
