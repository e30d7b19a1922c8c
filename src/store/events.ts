/**
 * Events: what a person may want to know. The same event again is a higher count; many that differ only in their
 * message become one; after a day they go. Names are made from what the event says, so that no scan is needed to find
 * the one to count up.
 */
import { createHash } from 'node:crypto'
import type { MctlObject } from '../api/meta.ts'
import { API_VERSION, DEFAULT_NAMESPACE, keyOf, timestamp } from '../api/meta.ts'
import type { Event, InvolvedObject } from '../api/records.ts'
import type { Tx } from './store.ts'

export const EVENT_LIFE_MS = 24 * 3_600_000
/** client-go's events_cache.go: more than 10 similar ones within 600 s are told as one. */
const SIMILAR_MAX = 10
const SIMILAR_MS = 600_000
const COMBINED = '(combined from similar events): '
/** A name has at most 253 characters; what the event adds to its object's name is 2 × 17 of them. */
const NAME_MAX = 210

export interface EventReport {
  readonly involvedObject: InvolvedObject
  readonly type: Event['type']
  /** CamelCase, specific. */
  readonly reason: string
  readonly message: string
  readonly source: Event['source']
}

/** How an event names the object that it is about. */
export function involvedObjectOf(object: MctlObject): InvolvedObject {
  const { apiVersion, kind, metadata } = object
  const { name, namespace, uid } = metadata
  return { apiVersion, kind, name, uid, ...(namespace === undefined ? {} : { namespace }) }
}

/** Writes the event, or counts it up; in the namespace of its object (`default` for those without one). */
export function recordEvent(tx: Tx, report: EventReport): Event {
  const namespace = report.involvedObject.namespace ?? DEFAULT_NAMESPACE
  const { similar, exact } = namesOf(report)
  const old = tx.get('Event', namespace, exact)
  if (old !== undefined) return tx.put(counted(old, report.message, tx.nowMs))
  const siblings = startingWith(tx.list('Event', namespace), `${similar}.`)
  const since = timestamp(tx.nowMs - SIMILAR_MS)
  if (siblings.filter((event) => event.lastTimestamp >= since).length < SIMILAR_MAX)
    return tx.put(fresh(tx, namespace, exact, report))
  const combined = tx.get('Event', namespace, `${similar}.combined`)
  const message = COMBINED + report.message
  if (combined !== undefined) return tx.put(counted(combined, message, tx.nowMs))
  return tx.put(fresh(tx, namespace, `${similar}.combined`, { ...report, message }))
}

/** Removes events that were last seen more than a day ago, at most `limit`; returns how many. Call again until 0. */
export function expireEvents(tx: Tx, limit: number): number {
  const before = timestamp(tx.nowMs - EVENT_LIFE_MS)
  const old = tx.list('Event').filter((event) => event.lastTimestamp < before)
  for (const event of old.slice(0, limit)) tx.remove(keyOf(event))
  return Math.min(old.length, limit)
}

function counted(event: Event, message: string, nowMs: number): Event {
  return { ...event, message, count: event.count + 1, lastTimestamp: timestamp(nowMs) }
}

function fresh(tx: Tx, namespace: string, name: string, report: EventReport): Event {
  const at = timestamp(tx.nowMs)
  const { involvedObject, type, reason, message, source } = report
  return {
    apiVersion: API_VERSION,
    kind: 'Event',
    metadata: { name, namespace, uid: tx.newUid(), resourceVersion: '', generation: 1, creationTimestamp: at },
    involvedObject,
    type,
    reason,
    message,
    count: 1,
    firstTimestamp: at,
    lastTimestamp: at,
    source,
  }
}

/** `<object>.<hash of all but the message>.<hash of the message>`: similar events stand side by side. */
function namesOf({ involvedObject, type, reason, message, source }: EventReport): { similar: string; exact: string } {
  const kept = involvedObject.name.slice(0, NAME_MAX)
  const similar = `${kept}.${hash([involvedObject.uid, type, reason, source.component, source.host ?? ''].join('\n'))}`
  return { similar, exact: `${similar}.${hash(message)}` }
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** The run of events whose names start with the prefix, out of a list in order of names. */
function startingWith(events: readonly Event[], prefix: string): readonly Event[] {
  let low = 0
  let high = events.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((events[middle] as Event).metadata.name < prefix) low = middle + 1
    else high = middle
  }
  let end = low
  while (events[end]?.metadata.name.startsWith(prefix) === true) end++
  return events.slice(low, end)
}
