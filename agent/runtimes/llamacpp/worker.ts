/**
 * The companion of a ggml-rpc-server, which would let anybody read and write this process's memory: it listens on
 * 127.0.0.1 alone, and the companion opens the way in for the node that leads. Ready as soon as it listens. It tells nothing of its work, and nobody may ask while
 * the leader is connected. So its heartbeat says only that the process is there: whether the gang moves on is seen at
 * the leader, which waits for its workers in each step.
 */
import type { Clock } from '../../../src/lib/clock.ts'
import { sleep } from '../../../src/lib/clock.ts'
import type { Companion } from '../../shardhost/companion.ts'
import type { CompanionSpec, EngineEvent } from '../../shardhost/protocol.ts'
import { TunnelExit } from '../../shardhost/tunnel.ts'
import { listenObstacle, retried } from './peers.ts'

interface WorkerSpec extends Extract<CompanionSpec, { kind: 'RpcWorker' }> {
  readonly shardUid: string
  readonly credentialsFile: string | undefined
}

/** It listens within 20 ms on a CPU; a GPU is set up first. The shardhost's own deadline is longer. */
const LISTEN_DEADLINE_MS = 60_000

export function rpcWorkerCompanion(spec: WorkerSpec, clock: Clock): Companion {
  const exit = new TunnelExit(spec)
  return {
    beforeStart: async () => {
      await exit.listen()
      return undefined
    },
    close: () => exit.close(),
    attend: async (tell, signal) => {
      const startMs = clock.monotonicMs()
      const obstacle = () => listenObstacle(spec.enginePort)
      if ((await retried(obstacle, LISTEN_DEADLINE_MS, clock, signal)) !== undefined || signal.aborted) return
      tell({ ev: 'ready', s: (clock.monotonicMs() - startMs) / 1000 })
      for (; !signal.aborted; await sleep(clock, BEAT_MS, signal)) tell(beat)
    },
    hear: lastWords,
  }
}

const BEAT_MS = 5000
const beat: EngineEvent = {
  ev: 'hb',
  phase: 'ready',
  busy: false,
  active: 0,
  queued: 0,
  steps: 0,
  polls: 0,
  ptok: 0,
  gtok: 0,
  age: 0,
  mem: 0,
}

/** It ends with 0 or 1 whatever has happened; only its words tell. */
const fatal = /^(?:error: |Failed to |No devices found|GGML_ASSERT)|GGML_ABORT|failed to allocate/

function lastWords(line: string): EngineEvent | undefined {
  return fatal.test(line) ? { ev: 'exit', code: 1, reason: line.trim().slice(0, 300) } : undefined
}
