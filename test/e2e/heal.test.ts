/** SIGKILL of any rank, while idle and in the middle of a stream, and SIGSTOP: no hang, the next epoch, nothing of the old one left. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../src/api/model.ts'
import type { Node } from '../../src/api/node.ts'
import { parseBytes } from '../../src/lib/quantity.ts'
import { stopAll } from '../support/mlx.ts'
import { Dev, endAll, pidAlive, until } from '../support/processes.ts'
import { complete, groupOf, readyIn, shardsOf, tinyDeployment, tinyModelsDir } from '../support/tinycluster.ts'

let dev: Dev

beforeAll(async () => {
  dev = await Dev.start({
    nodes: 2,
    simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10',
    env: { MCTL_MODELS_DIR: tinyModelsDir() },
  })
  for (const [name, parallelism] of [['pp', { strategy: 'Pipeline', degree: 2, split: [3, 2] }]] as const) {
    const applied = await dev.mctlWith(
      tinyDeployment(name, parallelism, { engine: { name: 'mlx', args: ['--beat-seconds=10'] } }),
      'apply',
      '-f',
      '-',
      '--wait',
      '--timeout',
      '60s',
    )
    expect(applied).toMatchObject({ code: 0, stderr: '' })
  }
})
afterAll(async () => {
  await endAll()
  await stopAll()
})

const pidsOf = async (group: string) => (await shardsOf(dev.client, group)).map((shard) => shard.status?.pid ?? -1)

/** Kills one rank, waits for the next epoch, and checks what must hold after every such death. */
async function killRank(group: string, rank: number): Promise<void> {
  const { epoch } = (await groupOf(dev.client, group)).spec
  const old = await pidsOf(group)
  process.kill(old[rank] ?? -1, 'SIGKILL')
  await until(() => readyIn(dev.client, group, epoch + 1), 60_000, `${group} is ready in epoch ${epoch + 1}`)
  expect(old.filter(pidAlive)).toEqual([])
  const shards = await shardsOf(dev.client, group)
  expect(shards.map((shard) => shard.spec.epoch)).toEqual([epoch + 1, epoch + 1])
  const { items } = await dev.client.list({ kind: 'Node' })
  for (const node of items as readonly Node[]) {
    const running = shards
      .filter((shard) => shard.spec.nodeName === node.metadata.name)
      .reduce((sum, shard) => sum + shard.spec.memoryBytes, 0)
    expect(parseBytes(node.status?.bound?.memory ?? '0')).toBe(running)
  }
}

test('the pace of a real gang is kept in its model, beside what was predicted of it', async () => {
  const answer = await complete(dev.gateway, 'pp', { stream: true, max_tokens: 300 })
  expect(await answer.text()).toContain('[DONE]')
  const observed = async () => {
    const models = (await dev.client.list({ kind: 'Model' })).items as readonly Model[]
    return models.flatMap((model) => model.status?.observed ?? [])
  }
  const [rate] = await until(async () => (await observed()).length > 0 && observed(), 10_000, 'a speed was observed')
  expect(rate).toMatchObject({ strategy: 'Pipeline', degree: 2, engine: 'mlx', samples: 1 })
  expect(rate?.tokensPerSecond).toBeGreaterThan(0)
  expect(rate?.predictedTokensPerSecond).toBeGreaterThan(0)
})

test.each([0, 1])(
  'rank %i of a pipeline is killed while idle: the group is back under the next epoch and answers the same',
  async (rank) => {
    const before = await (await complete(dev.gateway, 'pp')).text()
    await killRank('pp-0', rank)
    const after = await until(
      async () => {
        const response = await complete(dev.gateway, 'pp')
        return response.status === 200 && response.text()
      },
      10_000,
      'the gateway routes to the new leader',
    )
    expect(textOf(after)).toBe(textOf(before))
    const { firstCause } = (await groupOf(dev.client, 'pp-0')).status ?? {}
    expect(firstCause).toMatchObject({ rank, signal: 'SIGKILL' })
  },
  120_000,
)

const textOf = (body: string) => (JSON.parse(body) as { choices: { text: string }[] }).choices[0]?.text

test.each([0, 1])(
  'rank %i is killed in the middle of a stream: the stream ends with an error event, never a hang',
  async (rank) => {
    const response = await until(
      async () => {
        const answer = await complete(dev.gateway, 'pp', { stream: true, max_tokens: 450 })
        return answer.status === 200 && answer
      },
      20_000,
      'a stream begins',
    )
    const reader = response.body?.getReader()
    let text = ''
    const decoder = new TextDecoder()
    const first = await reader?.read()
    text += decoder.decode(first?.value)
    const healed = killRank('pp-0', rank)
    for (;;) {
      const next = await reader?.read()
      if (next === undefined || next.done) break
      text += decoder.decode(next.value, { stream: true })
    }
    expect(text).toContain('"error"')
    expect(text).not.toContain('[DONE]')
    await healed
  },
  120_000,
)

test('rank 1 is stopped: its silence is the first cause, not rank 0 that waits for it, and the next epoch serves', async () => {
  const { epoch } = (await groupOf(dev.client, 'pp-0')).spec
  const old = await pidsOf('pp-0')
  process.kill(old[1] ?? -1, 'SIGSTOP')
  await until(() => readyIn(dev.client, 'pp-0', epoch + 1), 90_000, `pp-0 is ready in epoch ${epoch + 1}`)
  expect(old.filter(pidAlive)).toEqual([])
  const { firstCause } = (await groupOf(dev.client, 'pp-0')).status ?? {}
  expect(firstCause).toMatchObject({ rank: 1, epoch, reason: 'EngineFrozen' })
  await until(async () => (await complete(dev.gateway, 'pp')).status === 200, 10_000, 'it answers')
}, 120_000)
