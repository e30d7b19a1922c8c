/** Tells one story to a fresh cluster: its faults, then their end; safe all the time, and settled in time. */
import type { Clock } from '../../src/lib/clock.ts'
import type { Facts, Logger } from '../../src/lib/log.ts'
import type { BrokenDoor } from '../support/simcluster.ts'
import { SimCluster } from '../support/simcluster.ts'
import { Acknowledged } from './acknowledged.ts'
import type { Story } from './commands.ts'
import { names, nodes } from './commands.ts'
import { MEMORY } from './machines.ts'
import { applyModels, endFaults, perform } from './perform.ts'
import { watchSafety } from './safety.ts'
import { unsettled } from './settled.ts'
import { Witness } from './witness.ts'

/** The longest crash backoff, a node's loss, a drain and a load must fit. */
const SETTLE_LIMIT_MS = 20 * 60_000
const SETTLE_STEP_MS = 5_000
/** A cluster that is settled stays so: what was only on its way shows here. */
const CALM_MS = 30_000

export interface Outcome {
  /** Empty: the story ended well. */
  readonly findings: readonly string[]
  /** Virtual time from the end of the faults until all was as asked. */
  readonly settledAfterMs: number
}

/** What happens, with the virtual time in seconds: commands, and what server and agents log. */
export type Tell = (atSeconds: number, line: string) => void

export async function tellStory(story: Story, tell?: Tell, broken?: BrokenDoor): Promise<Outcome> {
  const options = {
    seed: story.seed,
    nodes,
    memory: MEMORY,
    durable: true,
    ...(broken === undefined ? {} : { broken }),
  }
  const at: { clock?: Clock } = {}
  const say = (line: string) => tell?.((at.clock?.monotonicMs() ?? 0) / 1_000, line)
  const cluster = await SimCluster.start(tell === undefined ? options : { ...options, log: saying(say) })
  at.clock = cluster.clock
  const acknowledged = new Acknowledged(cluster, names)
  const scene = { cluster, acknowledged }
  const witness = new Witness()
  const findings = watchSafety(cluster, acknowledged, witness)
  const ended = (): Outcome => ({ findings: [...findings, ...lost()], settledAfterMs: 0 })
  const lost = () => (cluster.serverRuns ? acknowledged.findings() : [])
  try {
    await applyModels(cluster)
    witness.watch(cluster, story.seed)
    await cluster.clock.advance(8_000)
    for (const command of story.commands) {
      say(JSON.stringify(command))
      await perform(command, scene)
      await cluster.clock.advance(command.thenMs)
      if (findings.length > 0 || lost().length > 0) return ended()
    }
    say('the faults end')
    await endFaults(scene)
    const settledAfterMs = await settle(cluster, witness, findings)
    return { ...ended(), settledAfterMs }
  } catch (error) {
    return { findings: [...findings, `${error instanceof Error ? error.stack : String(error)}`], settledAfterMs: 0 }
  } finally {
    witness.stop()
    await cluster.stop()
  }
}

function saying(say: (line: string) => void, about: Facts = {}): Logger {
  const line = (message: string, facts: Facts = {}) => say(`${message} ${JSON.stringify({ ...about, ...facts })}`)
  return { debug: () => {}, info: line, warn: line, error: line, with: (facts) => saying(say, { ...about, ...facts }) }
}

async function settle(cluster: SimCluster, witness: Witness, findings: readonly string[]): Promise<number> {
  const startMs = cluster.clock.monotonicMs()
  const waitedMs = () => cluster.clock.monotonicMs() - startMs
  for (;;) {
    const open = unsettled(cluster, witness)
    if (findings.length > 0) return waitedMs()
    if (open === undefined) {
      const settledAfterMs = waitedMs()
      await cluster.clock.advance(CALM_MS)
      if (unsettled(cluster, witness) === undefined) return settledAfterMs
      continue
    }
    if (waitedMs() > SETTLE_LIMIT_MS) throw new Unsettled(open)
    await cluster.clock.advance(SETTLE_STEP_MS)
  }
}

class Unsettled extends Error {
  constructor(open: string) {
    super(`Unsettled after ${SETTLE_LIMIT_MS / 60_000} minutes without a fault: ${open}`)
  }
}
