// llama.cpp from `mctl apply` to the gateway on two nodes: chosen for a GGUF by itself, divided when asked, and back under
// the next epoch whichever rank dies, idle or busy.
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ModelDeployment } from '../../../src/api/modeldeployment.ts'
import type { Node } from '../../../src/api/node.ts'
import { GGUF_SOURCE, withLlamaCpp } from '../../support/llamacpp.ts'
import { Dev, endAll, pidAlive, until } from '../../support/processes.ts'
import { groupOf, readyIn, shardsOf } from '../../support/tinycluster.ts'

const PROMPT = 'The capital of France is'

withLlamaCpp(() => {
  let dev: Dev
  beforeAll(async () => {
    dev = await Dev.start({ nodes: 2, simulate: 'chip=Apple M4,memory=16Gi,gpuCores=10' })
  })
  afterAll(endAll)

  async function deploy(name: string, parallelism: object, engine?: object): Promise<void> {
    const manifest = {
      apiVersion: 'mctl.dev/v1alpha1',
      kind: 'ModelDeployment',
      metadata: { name },
      spec: {
        model: { source: GGUF_SOURCE },
        parallelism,
        serving: { contextTokens: 512, concurrency: 2 },
        ...(engine === undefined ? {} : { engine }),
      },
    }
    const applied = await dev.mctlWith(JSON.stringify(manifest), 'apply', '-f', '-', '--wait', '--timeout', '90s')
    expect(applied).toMatchObject({ code: 0, stderr: '' })
  }

  const complete = (model: string, more: object = {}) =>
    fetch(`http://${dev.gateway}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model, prompt: PROMPT, max_tokens: 6, temperature: 0, ...more }),
    })
  const textFrom = async (response: Response) =>
    ((await response.json()) as { choices: { text: string }[] }).choices[0]?.text

  let alone: string | undefined

  test('Auto takes llama.cpp for a GGUF file, one node per replica', async () => {
    await deploy('data', { strategy: 'Data' })
    const [shard] = await shardsOf(dev.client, 'data-0')
    expect(shard?.spec.engine.name).toBe('llamacpp')
    alone = await textFrom(await complete('data'))
    expect(alone).toContain('Paris')
    const { items } = await dev.client.list({ kind: 'Node' })
    const engine = (items as readonly Node[])[0]?.status?.engines?.find((e) => e.name === 'llamacpp')
    expect(engine).toMatchObject({ transports: ['Rpc'], pipeline: ['*'], tensor: [] })
    expect((await dev.mctl('delete', 'md/data')).code).toBe(0)
    expect(pidAlive(shard?.status?.pid ?? -1)).toBe(false)
  })

  test('a pipeline of two answers as one node does', async () => {
    // One thread each: the ranks share the cores of this machine.
    const engine = { name: 'llamacpp', args: ['--threads=1'] }
    await deploy('pp', { strategy: 'Pipeline', degree: 2, split: [20, 10] }, engine)
    const shards = await shardsOf(dev.client, 'pp-0')
    expect(shards.map(({ spec }) => [spec.rank, ...spec.stage, spec.transport])).toEqual([
      [0, 0, 20, 'Rpc'],
      [1, 20, 30, 'Rpc'],
    ])
    expect(await textFrom(await complete('pp'))).toBe(alone)
    const { object } = await dev.client.get({ ref: { kind: 'ModelDeployment', namespace: 'default', name: 'pp' } })
    expect((object as ModelDeployment).status?.plan).toMatchObject({ strategy: 'Pipeline', degree: 2 })
  })

  /** Kills one rank; resolves when the next epoch answers, and nothing of this one is left. */
  async function killRank(rank: number): Promise<void> {
    const { epoch } = (await groupOf(dev.client, 'pp-0')).spec
    const pids = (await shardsOf(dev.client, 'pp-0')).map((shard) => shard.status?.pid ?? -1)
    process.kill(pids[rank] ?? -1, 'SIGKILL')
    await until(() => readyIn(dev.client, 'pp-0', epoch + 1), 60_000, `pp-0 is ready in epoch ${epoch + 1}`)
    expect(pids.filter(pidAlive)).toEqual([])
    expect((await groupOf(dev.client, 'pp-0')).status?.firstCause).toMatchObject({ rank, signal: 'SIGKILL', epoch })
  }

  const answersAgain = () =>
    until(
      async () => {
        const response = await complete('pp')
        return response.status === 200 && (await textFrom(response)) === alone
      },
      20_000,
      'the gateway routes to the new leader',
    )

  test('the worker is killed while nobody asks: the leader is ended at once, though it noticed nothing', async () => {
    await killRank(1)
    await answersAgain()
  })

  test.each([1, 0])(
    'rank %i is killed in the middle of a stream: an error event, the next epoch, the same answer',
    async (rank) => {
      const response = await complete('pp', { stream: true, max_tokens: 450, logit_bias: { 0: -100, 2: -100 } })
      expect(response.status).toBe(200)
      const reader = (response.body as ReadableStream<Uint8Array>).getReader()
      const decoder = new TextDecoder()
      let text = decoder.decode((await reader.read()).value)
      const healed = killRank(rank)
      for (let part = await reader.read(); !part.done; part = await reader.read()) text += decoder.decode(part.value)
      expect(text).toContain('"error"')
      expect(text).not.toContain('[DONE]')
      await healed
      await answersAgain()
    },
  )
})
