/**
 * The loop that has links measured: one key. A pass starts what is due over the agents' sessions and does not wait; what
 * comes back wakes it again. What was tried is kept here, for only news goes into the store.
 */
import { keyString, timestamp } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import type { LinkMeasurement } from '../api/links.ts'
import type { LinkEnds, Start, Tried } from '../planner/links/measure.ts'
import { afterMeasurement, endsKey, planMeasurements, triedKey } from '../planner/links/measure.ts'
import { recordActions } from '../planner/links/record.ts'
import { messageOf } from '../lib/errors.ts'
import type { Change } from '../store/store.ts'
import { flippedReady, isOfKind, sameButBound } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { perform } from './perform.ts'

const MEASUREMENTS = keyString({ kind: 'LinkMeasurements', namespace: '', name: 'all' })

export function linkMeasureLoop(doors: ControllerDoors): Loop {
  const running = new Map<string, LinkEnds>()
  const tried = new Map<string, Tried>()
  let wake = () => {}

  const measure = async (start: Start) => {
    const { port, engine, ...ends } = start
    const key = triedKey(start)
    const { store, sessions, clock, log } = doors
    const { from, to, address, peerAddress } = ends
    try {
      const order = { peer: to, address, peerAddress, port, ...(engine.kind === 'Wanted' ? { engine: true } : {}) }
      const answer = await sessions.measureLink(from, order)
      const last = afterMeasurement(tried.get(key), answer, clock.nowMs())
      tried.set(key, last)
      const found = explained(answer, engine)
      if (found.kind !== 'Measured') log.info('link not measured', { from, to, address, ...found })
      else if (engine.kind === 'Wanted' && found.engine?.kind !== 'Measured')
        log.info('link not measured through the engine', { from, to, address, ...found.engine })
      await store.transact((tx) => {
        const measuredAt = timestamp(tx.nowMs)
        perform(tx, recordActions(tx.list('Node'), { ends, found, tried: last, measuredAt }))
      })
    } catch (error) {
      log.warn('a measurement of a link was not written', { from, to, error: messageOf(error) })
    } finally {
      running.delete(endsKey(ends))
      wake()
    }
  }

  return {
    name: 'linkmeasure',
    allKeys: () => [MEASUREMENTS],
    keysOf: (change) => (concerns(change) ? [MEASUREMENTS] : []),
    listen(wakeKey) {
      wake = () => wakeKey(MEASUREMENTS)
      return () => (wake = () => {})
    },
    reconcile() {
      const snapshot = doors.store.snapshot()
      const plan = planMeasurements({
        nodes: snapshot.list('Node'),
        shards: snapshot.list('Shard'),
        groups: snapshot.list('ShardGroup'),
        running: [...running.values()],
        tried,
        nowMs: doors.clock.nowMs(),
      })
      for (const link of plan.start) {
        running.set(endsKey(link), link)
        void measure(link)
      }
      return Promise.resolve(plan.waitMs)
    },
  }
}

/** Why nobody was asked for the engine's part. */
function explained(answer: LinkMeasurement, engine: Start['engine']): LinkMeasurement {
  if (answer.kind !== 'Measured' || engine.kind !== 'Impossible') return answer
  return { ...answer, engine: { kind: 'Failed', message: engine.message } }
}

/** Links, doors and readiness of nodes; a shard or a group that went may leave its node quiet. */
function concerns(change: Change): boolean {
  const { object, previous, type } = change
  if (isOfKind(object, 'Shard')) return type !== 'ADDED'
  if (isOfKind(object, 'ShardGroup'))
    return type === 'DELETED' || object.metadata.generation !== previous?.metadata.generation
  if (!isOfKind(object, 'Node')) return false
  return flippedReady(change) || !sameButBound(object, previous as Node | undefined)
}
