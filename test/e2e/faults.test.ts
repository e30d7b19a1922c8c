/**
 * Engines that live and are of no use: stopped while busy and while idle, stuck, mute, stopped in a gang, their host
 * stopped; and one that cannot load. All in one cluster, side by side: each is found out and healed, or said to be Failed.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findCondition } from '../../src/api/conditions.ts'
import { tinyShape } from '../support/cluster.ts'
import { Dev, endAll, pidAlive, until } from '../support/processes.ts'
import { complete, groupOf, readyIn, shardsOf } from '../support/tinycluster.ts'

const HEAL_MS = 90_000
let dev: Dev

beforeAll(async () => {
  dev = await Dev.start({ nodes: 2, simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10' })
  expect((await dev.mctlWith(model, 'apply', '-f', '-')).code).toBe(0)
})
afterAll(endAll)

const apiVersion = 'mctl.dev/v1alpha1'
const model = JSON.stringify({ apiVersion, kind: 'Model', metadata: { name: 'shape' }, spec: { shape: tinyShape } })
const told = (name: string, args: readonly string[], parallelism: object = { strategy: 'Data' }) =>
  JSON.stringify({
    apiVersion,
    kind: 'ModelDeployment',
    metadata: { name },
    spec: {
      model: { name: 'shape' },
      parallelism,
      serving: { contextTokens: 4096, concurrency: 2 },
      engine: { name: 'fake', args: ['--tokens-per-second=20', ...args] },
    },
  })

const apply = (manifest: string) => dev.mctlWith(manifest, 'apply', '-f', '-', '--wait', '--timeout', '60s')
const deploy = async (...wanted: Parameters<typeof told>) =>
  expect(await apply(told(...wanted))).toMatchObject({ code: 0, stderr: '' })
const pidOf = async (group: string, rank = 0) => (await shardsOf(dev.client, group))[rank]?.status?.pid ?? -1

/** The group is Ready in its second epoch, what made it fail is its first cause, and the old process is gone. */
async function healed(group: string, reason: string, pid: number) {
  await until(() => readyIn(dev.client, group, 2), HEAL_MS, `${group} is ready in epoch 2`)
  const { firstCause } = (await groupOf(dev.client, group)).status ?? {}
  expect(firstCause).toMatchObject({ epoch: 1, reason })
  expect(pidAlive(pid)).toBe(false)
  return firstCause
}

/** Once answered, it serves again; a gateway may need a moment to hear of the new leader. */
const answers = (name: string) =>
  until(async () => (await complete(dev.gateway, name)).status === 200, 10_000, `${name} answers`)

describe.concurrent('an engine', () => {
  test('that is stopped while idle is frozen: it is killed and comes back', async () => {
    await deploy('idle', ['--beat-seconds=3'])
    const pid = await pidOf('idle-0')
    process.kill(pid, 'SIGSTOP')
    await healed('idle-0', 'EngineFrozen', pid)
    await answers('idle')
  })

  test('that is stopped in the middle of a stream is killed, and the client is told', async () => {
    await deploy('busy', ['--beat-seconds=3'])
    const pid = await pidOf('busy-0')
    const response = await complete(dev.gateway, 'busy', { stream: true, max_tokens: 2000 })
    const reader = response.body?.getReader()
    await reader?.read()
    process.kill(pid, 'SIGSTOP')
    let text = ''
    for (;;) {
      const next = await reader?.read()
      if (next === undefined || next.done) break
      text += new TextDecoder().decode(next.value)
    }
    expect(text).toContain('"error"')
    expect(text).not.toContain('[DONE]')
    await healed('busy-0', 'EngineFrozen', pid)
    await answers('busy')
  })

  test('that takes requests and makes no token is stuck, though it beats and polls', async () => {
    await deploy('stuck', ['--stuck-after-ms=1', '--only-epoch=1', '--stall-seconds=3'])
    const pid = await pidOf('stuck-0')
    const asked = complete(dev.gateway, 'stuck')
    await healed('stuck-0', 'EngineStuck', pid)
    expect((await asked).status).not.toBe(0)
  })

  test('that is idle and answers nothing but errors fails its canary', async () => {
    await deploy('mute', ['--mute-after-ms=1', '--only-epoch=1', '--canary-every-seconds=1'])
    await healed('mute-0', 'CanaryFailed', await pidOf('mute-0'))
    await answers('mute')
  })

  test('whose host is stopped goes with it', async () => {
    await deploy('host', [])
    const pid = await pidOf('host-0')
    const host = Number(/^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    process.kill(host, 'SIGSTOP')
    await healed('host-0', 'ShardhostSilent', pid)
    expect(pidAlive(host)).toBe(false)
  })

  test('of a gang that is stopped is the first cause, not the ranks that wait for it', async () => {
    await deploy('gang', ['--beat-seconds=3', '--stall-seconds=4'], { strategy: 'Pipeline', degree: 2 })
    const pid = await pidOf('gang-0', 1)
    process.kill(pid, 'SIGSTOP')
    expect(await healed('gang-0', 'EngineFrozen', pid)).toMatchObject({ rank: 1 })
    await answers('gang')
  })

  test('that cannot load three times makes its group Failed with the remedy; another template is tried at once', async () => {
    const refused = await apply(told('heavy', ['--refuse-memory']))
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('LoadFailed')
    expect(refused.stderr).toContain('what to do: the engine got no memory: lower serving.contextTokens')
    const { status } = await groupOf(dev.client, 'heavy-0')
    expect(status).toMatchObject({ phase: 'Failed', loadFailures: 3, firstCause: { code: 70, reason: 'EngineExited' } })
    expect(status?.firstCause?.lastLogLines?.join()).toContain('cannot allocate')
    expect(findCondition(status?.conditions, 'Ready')?.reason).toBe('LoadFailed')
    const described = await dev.mctl('describe', 'sg', 'heavy-0')
    expect(described.stdout).toContain('what to do: the engine got no memory')
    expect(described.stdout).toMatch(/next try: after 20\d\d-\S+Z \(failed to load 3 times in a row/)
    await deploy('heavy', [])
  })
})
