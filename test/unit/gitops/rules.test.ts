/** The pure rules of following: when drift is undone, when removal asks, which names are refused, who waits for whom. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { InventoryEntry } from '../../../src/api/sync.ts'
import type { HealRecord } from '../../../src/gitops/drift.ts'
import { HEAL_AFTER_MS, HEAL_MAX_MS, judgeDrift, LOOP_FLIPS, LOOP_MS, settled } from '../../../src/gitops/drift.ts'
import { gitArguments, gitEnvironment, saidBy, sshCommand } from '../../../src/gitops/git.ts'
import { guardPrune } from '../../../src/gitops/guard.ts'
import { worst } from '../../../src/gitops/health.ts'
import { chooseEntries, digestOfFiles, isUnsafe } from '../../../src/gitops/tree.ts'

describe('drift', () => {
  test('is undone 5 s after it was seen, not after the last look', () => {
    const seen = judgeDrift(undefined, 1_000)
    expect(seen.verdict).toEqual({ kind: 'Wait', waitMs: HEAL_AFTER_MS })
    expect(judgeDrift(seen.record, 3_000).verdict).toEqual({ kind: 'Wait', waitMs: 3_000 })
    expect(judgeDrift(seen.record, 6_000).verdict).toEqual({ kind: 'Heal' })
  })

  test('each time later, never after more than 5 minutes, and never more than 5 times in 10 minutes', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 400_000 }), { maxLength: 60 }), (gaps) => {
        let record: HealRecord | undefined
        let nowMs = 0
        const heals: number[] = []
        for (const gap of gaps) {
          nowMs += gap
          const judged = judgeDrift(record, nowMs)
          record = judged.record
          if (judged.verdict.kind === 'Heal') heals.push(nowMs)
          if (judged.verdict.kind === 'Wait') expect(judged.verdict.waitMs).toBeLessThanOrEqual(HEAL_MAX_MS)
        }
        for (const ms of heals) {
          const recent = heals.filter((other) => other <= ms && ms - other < LOOP_MS)
          expect(recent.length).toBeLessThanOrEqual(LOOP_FLIPS)
        }
      }),
    )
  })

  test('is forgotten after ten quiet minutes', () => {
    const record = { healedAtMs: [0], looping: false }
    expect(settled(record, LOOP_MS - 1)).toEqual(record)
    expect(settled(record, LOOP_MS)).toBeUndefined()
  })
})

describe('removal', () => {
  const entries = (n: number): InventoryEntry[] =>
    Array.from({ length: n }, (_, i) => ({
      kind: 'ModelDeployment',
      namespace: 'default',
      name: `m${i}`,
      uid: `u${i}`,
    }))
  const ask = (pruned: number, followed: number, more: object = {}) =>
    guardPrune({
      revision: 'r',
      pruned: entries(pruned),
      followed,
      wanted: followed - pruned,
      missingPaths: [],
      approved: undefined,
      ...more,
    })

  test.each([
    [0, 10, undefined],
    [3, 10, undefined],
    [4, 10, 'more than 30 %'],
    [10, 100, undefined],
    [11, 100, 'more than 10'],
    [1, 1, 'for the source holds no objects any more'],
  ])('%i of %i', (pruned, followed, reason) => expect(ask(pruned, followed)?.reason).toBe(reason))

  test('an approval is good for the same objects of the same revision, and for nothing else', () => {
    const approved = ask(4, 10)?.approval
    expect(ask(4, 10, { approved })).toBeUndefined()
    expect(ask(5, 10, { approved })).toBeDefined()
    expect(ask(4, 10, { approved, revision: 's' })).toBeDefined()
  })
})

describe('trees', () => {
  test.each([
    '../x.yaml',
    '/etc/x.yaml',
    'a/../../x.yaml',
    'a//x.yaml',
    '.git/x.yaml',
    'a/.GIT/x',
    'a\\b.yaml',
    'a\nb.yaml',
    '',
  ])('the name %j is refused', (path) => expect(isUnsafe(path)).toBe(true))

  test('manifests are chosen by their ending, in order; what is hidden or of no use is left alone', () => {
    const entry = (path: string) => ({ path, type: 'File' as const, bytes: 1 })
    const { files, causes } = chooseEntries(
      ['b.yml', 'a.json', 'c.yaml', 'README.md', '.github/x.yaml', 'd.YAML'].map(entry),
    )
    expect(causes).toEqual([])
    expect(files.map(({ path }) => path)).toEqual(['a.json', 'b.yml', 'c.yaml'])
  })

  test('the digest tells names and contents apart', () => {
    const file = (path: string, text: string) => ({ path, bytes: Buffer.from(text) })
    const digests = [[file('ab', 'c')], [file('a', 'bc')], [file('a', 'b'), file('c', '')], [file('a', 'b')], []].map(
      digestOfFiles,
    )
    expect(new Set(digests).size).toBe(digests.length)
  })
})

describe('git', () => {
  test('sees nothing of the server but what it is given, and may ask nobody', () => {
    const env = gitEnvironment({ env: { PATH: '/bin' }, home: '/h' })
    expect(env).toMatchObject({
      HOME: '/h',
      PATH: '/bin',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_TERMINAL_PROMPT: '0',
      GIT_ALLOW_PROTOCOL: 'https:ssh:file',
    })
    expect(Object.keys(env).filter((name) => !/^(GIT_|PATH$|HOME$|LC_ALL$|TZ$)/.test(name))).toEqual([])
    expect(gitArguments({ args: ['fetch'] }).join(' ')).toContain('-c core.hooksPath=/dev/null')
  })

  test('paths of keys are quoted for the shell that git starts ssh with', () => {
    expect(sshCommand("/a b/it's", '/k')).toContain(`-i '/a b/it'\\''s'`)
  })

  test('what it says is told without passwords, hints and prefixes', () => {
    expect(saidBy("hint: x\nfatal: could not read 'https://me:pw@host/x'\n", 128)).toBe(
      "could not read 'https://…@host/x'",
    )
    expect(saidBy('', 7)).toBe('git exited with 7')
  })
})

test('a Sync is as healthy as its worst object', () => {
  expect(worst([])).toBe('Healthy')
  expect(worst(['Healthy', 'Degraded', 'Progressing'])).toBe('Degraded')
})
