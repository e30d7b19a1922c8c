import { describe, expect, onTestFinished, test } from 'vitest'
import { silentLogger } from '../../../src/lib/log.ts'
import { Gathering } from '../../../src/store/gather.ts'
import { openStore } from '../../../src/store/sqlite.ts'
import type { Store } from '../../../src/store/store.ts'
import { putModel } from '../../support/stores.ts'
import { SeededRandom, settle, VirtualClock } from '../../support/virtualclock.ts'

/** How often it was committed, and a clock that stands still unless told. */
function aGathering() {
  const clock = new VirtualClock()
  let commits = 0
  const gathering = new Gathering(clock, () => commits++)
  onTestFinished(() => gathering.stop())
  return { clock, gathering, commits: () => commits }
}

describe('what waits', () => {
  test('alone is committed in the next turn', async () => {
    const { gathering, commits } = aGathering()
    gathering.onWaiting(1)
    expect(commits()).toBe(0)
    await settle()
    expect(commits()).toBe(1)
  })

  test('shares one turn with all that comes in the same', async () => {
    const { gathering, commits } = aGathering()
    for (const waiting of [1, 2, 3]) gathering.onWaiting(waiting)
    await settle()
    expect(commits()).toBe(1)
  })

  test('after a shared commit waits for as many again, and not longer', async () => {
    const { gathering, commits } = aGathering()
    gathering.onCommitted(4, 1)
    gathering.onCommitted(3, 1)
    gathering.onWaiting(1)
    gathering.onWaiting(2)
    await settle()
    expect(commits()).toBe(0)
    gathering.onWaiting(3)
    await settle()
    expect(commits()).toBe(1)
  })

  test('waits no longer for company than a few commits take', async () => {
    const { clock, gathering, commits } = aGathering()
    gathering.onCommitted(3, 0.5)
    gathering.onWaiting(1)
    await clock.advance(1.9)
    expect(commits()).toBe(0)
    await clock.advance(0.1)
    expect(commits()).toBe(1)
  })

  test('never waits more than 4 ms, however slow the disk is', async () => {
    const { clock, gathering, commits } = aGathering()
    gathering.onCommitted(3, 80)
    gathering.onWaiting(1)
    await clock.advance(4)
    expect(commits()).toBe(1)
  })

  test('does not wait when nobody came the last time', async () => {
    const { gathering, commits } = aGathering()
    gathering.onCommitted(3, 1)
    gathering.onCommitted(1, 1)
    gathering.onWaiting(1)
    await settle()
    expect(commits()).toBe(1)
  })

  test('does not wait where commits cost no time', async () => {
    const { gathering, commits } = aGathering()
    gathering.onCommitted(3, 0)
    gathering.onWaiting(1)
    await settle()
    expect(commits()).toBe(1)
  })

  test('has company enough with 32', async () => {
    const { gathering, commits } = aGathering()
    gathering.onCommitted(200, 1)
    gathering.onWaiting(31)
    await settle()
    expect(commits()).toBe(0)
    gathering.onWaiting(32)
    await settle()
    expect(commits()).toBe(1)
  })

  test('is tried with one more now and then: more writers than shared the last commit are found', async () => {
    const { gathering, commits } = aGathering()
    gathering.onCommitted(3, 1)
    gathering.onCommitted(2, 1)
    let tries = 0
    for (let round = 0; round < 64; round++) {
      const before = commits()
      gathering.onWaiting(2)
      await settle()
      if (commits() === before) {
        tries++
        gathering.onWaiting(3)
        await settle()
      }
      gathering.onCommitted(2, 1)
    }
    expect(tries).toBeGreaterThan(1)
    expect(tries).toBeLessThan(8)
    for (let writers = 3; writers < 12; writers++) gathering.onCommitted(writers, 1)
    const before = commits()
    gathering.onWaiting(10)
    await settle()
    expect(commits()).toBe(before)
  })
})

describe('a store whose commits take time', () => {
  /** Each look at it moves the clock, so that a commit seems to take a while. */
  class RestlessClock extends VirtualClock {
    #looks = 0
    override monotonicMs(): number {
      return super.monotonicMs() + this.#looks++ / 10
    }
  }
  const aSlowStore = async () => {
    const clock = new RestlessClock()
    const store = await openStore({ dataDir: ':memory:', clock, random: new SeededRandom(1), log: silentLogger })
    onTestFinished(() => store.close())
    return { store, clock }
  }
  const write = (store: Store, name: string) => store.transact((tx) => putModel(tx, name, '1'))

  test('lets the next transaction wait for company, and commits it when none comes', async () => {
    const { store, clock } = await aSlowStore()
    await Promise.all(['a', 'b', 'c'].map((name) => write(store, name)))
    const lone = write(store, 'd')
    await settle()
    expect(store.snapshot().get('Model', '', 'd')).toBeUndefined()
    await clock.advance(4)
    await lone
    expect(store.snapshot().get('Model', '', 'd')).toBeDefined()
  })

  test('commits what waits for company when it closes', async () => {
    const { store } = await aSlowStore()
    await Promise.all(['a', 'b', 'c'].map((name) => write(store, name)))
    const waiting = write(store, 'd')
    await settle()
    await store.close()
    expect((await waiting).metadata.name).toBe('d')
  })

  test('does not wait after transactions that wrote nothing', async () => {
    const { store } = await aSlowStore()
    await Promise.all(['a', 'b', 'c'].map((name) => write(store, name)))
    await Promise.all([1, 2, 3, 4, 5].map(() => store.transact((tx) => tx.revision)))
    await write(store, 'd')
    expect(store.snapshot().get('Model', '', 'd')).toBeDefined()
  })
})
