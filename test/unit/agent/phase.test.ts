// What an engine's events and its end mean for the shard.
import { expect, test } from 'vitest'
import type { EngineEnd } from '../../../agent/shardhost/phase.ts'
import { exitOf, onEvent, parseEvent, progressAgeSeconds, startingView } from '../../../agent/shardhost/phase.ts'
import type { EngineEvent } from '../../../agent/shardhost/protocol.ts'

const beat = (age: number): EngineEvent => ({
  ev: 'hb',
  phase: 'ready',
  busy: false,
  active: 0,
  queued: 0,
  steps: 0,
  polls: 0,
  ptok: 0,
  gtok: 0,
  age,
  mem: 0,
})
const after = (...events: EngineEvent[]) => events.reduce((view, event) => onEvent(view, event, 1000), startingView)

test('an engine loads after it has met its ranks, and being ready is only said', () => {
  expect(after({ ev: 'start', world: 2 }, { ev: 'joined', world: 2, s: 1 }).phase).toBe('Starting')
  expect(after({ ev: 'loading' })).toMatchObject({ phase: 'Loading', saidReady: false })
  expect(after({ ev: 'ready', s: 1 })).toMatchObject({ phase: 'Loading', saidReady: true })
})

test('no event leads out of Stopping', () => {
  const stopping = { ...startingView, phase: 'Stopping' as const }
  expect(onEvent(stopping, { ev: 'loading' }, 0).phase).toBe('Stopping')
  expect(onEvent(stopping, { ev: 'ready', s: 1 }, 0).phase).toBe('Stopping')
})

test('the age grows after the last heartbeat, and means nothing before Ready', () => {
  const loading = after(beat(3))
  expect(progressAgeSeconds(loading, 9000)).toBeUndefined()
  const ready = { ...loading, phase: 'Ready' as const }
  expect(progressAgeSeconds(ready, 1000)).toBe(3)
  expect(progressAgeSeconds(ready, 5500)).toBe(7.5)
})

test('an engine that freezes before its first heartbeat ages from its ready event on', () => {
  const ready = { ...after({ ev: 'ready', s: 1 }), phase: 'Ready' as const }
  expect(progressAgeSeconds(ready, 4000)).toBe(3)
})

test('a line that is no event of ours is passed over', () => {
  for (const line of ['', 'loading', '[]', 'null', '{"ev":"other"}', '{"ev":'])
    expect(parseEvent(line), line).toBeUndefined()
  expect(parseEvent('{"ev":"loading","rank":0}')).toMatchObject({ ev: 'loading' })
})

const end = (part: Partial<EngineEnd>) => exitOf({ code: null, signal: null, phase: 'Ready', atMs: 5, ...part })

test('an end that nobody asked for is a failure with a reason, 0 included', () => {
  expect(end({ code: 0 })).toMatchObject({ code: 0, reason: 'EngineExited' })
  expect(end({ signal: 'SIGSEGV' })).toMatchObject({ signal: 'SIGSEGV', reason: 'EngineCrashed' })
  expect(end({ code: 64 }).reason).toBe('WorldMismatch')
  expect(end({ code: 65 }).reason).toBe('EngineUnsupported')
  expect(end({ signal: 'SIGALRM', phase: 'Starting' }).reason).toBe('StartDeadline')
})

test("the message carries the engine's own words, else its last line if it ended by itself", () => {
  const farewell = { reason: 'connection to a peer was lost' }
  expect(end({ code: 70, farewell, lastLogLine: 'noise' }).message).toBe(
    'the engine ended with code 70 while Ready: connection to a peer was lost',
  )
  expect(end({ code: 1, lastLogLine: 'ImportError: no mlx' }).message).toBe(
    'the engine ended with code 1 while Ready: ImportError: no mlx',
  )
  expect(end({ signal: 'SIGKILL', lastLogLine: 'POST /v1/completions 200' }).message).toBe(
    'the engine was ended by SIGKILL while Ready',
  )
})

test('an end that was asked for says by whom', () => {
  const asked = { reason: 'Stopped', message: 'scaled down' }
  expect(end({ code: 0, asked })).toEqual({
    code: 0,
    reason: 'Stopped',
    message: 'scaled down; the engine ended with code 0',
    atMs: 5,
  })
  expect(end({ asked }).message).toBe('scaled down')
})
