/**
 * The command line against a real `mctl dev` with the fake engine: what fits and what does not, logs and chat, files
 * that are no manifests, and that nothing is left of what was deleted or stopped.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { socketDir } from '../../agent/handles.ts'
import type { Shard } from '../../src/api/shard.ts'
import { tinyShape } from '../support/cluster.ts'
import { Dev, Running, freePort, mctl, pidAlive, root, tempDir, until } from '../support/processes.ts'
import { isOpen, portsOf, processesOf } from '../support/remains.ts'
import { completedBy, hasShell } from '../support/shells.ts'

const simulate = 'chip=Apple M4,memory=16Gi,gpuCores=10'
const GIB = 2 ** 30

const manifest = (kind: string, name: string, spec: object) =>
  JSON.stringify({ apiVersion: 'mctl.dev/v1alpha1', kind, metadata: { name }, spec })

/** A shape of 16 bits with so many bytes of weights: the fake engine needs no files. */
const model = (name: string, weightBytes: number) =>
  manifest('Model', name, {
    shape: { ...tinyShape, parameters: weightBytes / 2, weightBytes, quantization: { bits: 16 } },
  })

const deployment = (name: string, of: string, more: object = {}) =>
  manifest('ModelDeployment', name, {
    model: { name: of },
    parallelism: { strategy: 'Data' },
    engine: { name: 'fake', args: ['--tokens-per-second=50'] },
    serving: { contextTokens: 1024, concurrency: 1 },
    ...more,
  })

const documents = (...texts: readonly string[]) => texts.join('\n---\n')

test('what the build makes can be run by its name, as npx does', () => {
  const said = execFileSync(join(root, 'dist/src/bin/mctl.js'), ['version', '--client'], { encoding: 'utf8' })
  expect(said).toMatch(/Client Version: /)
})

describe('one Mac', () => {
  let dev: Dev
  const files = tempDir()
  const file = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(files, name), content)
    return join(files, name)
  }
  beforeAll(async () => {
    dev = await Dev.start({ nodes: 1, simulate })
  })
  afterAll(async () => {
    await dev.stop()
    rmSync(files, { recursive: true, force: true })
  })

  test('two that each fit but not together: the second waits with the bytes that are missing, and is placed by itself', async () => {
    const both = documents(model('large', 6 * GIB), deployment('first', 'large'), deployment('second', 'large'))
    expect(await dev.mctlWith(both, 'apply', '-f', '-')).toEqual({
      code: 0,
      stdout: [
        'model.mctl.dev/large created',
        'modeldeployment.mctl.dev/first created',
        'modeldeployment.mctl.dev/second created\n',
      ].join('\n'),
      stderr: '',
    })
    expect(await dev.mctl('wait', 'md/first', '--for=condition=Ready')).toMatchObject({ code: 0 })
    expect(await dev.mctl('wait', 'md/second', '--for=condition=Scheduled=False')).toMatchObject({ code: 0 })

    const table = (await dev.mctl('get', 'md', '-o', 'wide')).stdout
    expect(table).toMatch(/^NAME +READY +STRATEGY +NODES +ENDPOINT +AGE +MODEL .*REASON$/m)
    expect(table).toMatch(/^first +1\/1 +Data +mini-1 +http:\/\/127\.0\.0\.1:\d+ .*<none>$/m)
    expect(table).toMatch(/^second +0\/1 +Data +<none> +<none> .*Unschedulable$/m)
    expect((await dev.mctl('describe', 'md', 'second')).stdout).toMatch(
      /mini-1: insufficient memory: needs 6\.\dGi \(\d+ bytes\), 4\.\dGi free of 10\.1Gi allocatable, 6\.\dGi bound \(\d+ bytes\)/,
    )
    expect((await dev.mctl('get', 'nodes')).stdout).toMatch(
      /^mini-1 +Ready +Apple M4 \(simulated\) +6\.\dGi\/10\.1Gi +1 /m,
    )

    const deleted = await dev.mctl('delete', 'md', 'first')
    expect(deleted).toMatchObject({
      code: 0,
      stdout: 'modeldeployment.mctl.dev "first" deleted from default namespace\n',
    })
    expect(await dev.mctl('wait', 'md/second', '--for=condition=Ready')).toMatchObject({ code: 0 })
  })

  test('the log of a deployment, of its shard, and of nobody', async () => {
    const whole = await dev.mctl('logs', 'md/second')
    expect(whole).toMatchObject({ code: 0, stderr: '' })
    expect(whole.stdout).toContain('fake engine: rank 0 of 1')
    const [shard] = (await dev.client.list({ kind: 'Shard' })).items
    const tail = await dev.mctl('logs', shard?.metadata.name ?? '', '--tail', '1')
    expect(tail.stdout.trimEnd().split('\n')).toEqual([whole.stdout.trimEnd().split('\n').at(-1)])
    // Without --timestamps a line is what the engine wrote; with it, the time stands before it.
    const timed = (await dev.mctl('logs', 'md/second', '--timestamps', '--since=1h')).stdout.trimEnd().split('\n')
    const stamp = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /
    expect(timed.map((line) => line.replace(stamp, ''))).toEqual(whole.stdout.trimEnd().split('\n'))
    const ages = timed.map((line) => Date.now() - Date.parse((stamp.exec(line)?.[0] ?? '').trim()))
    expect(ages.every((ms) => ms >= 0 && ms < 120_000)).toBe(true)
    expect((await dev.mctl('logs', 'md/second', '--since-time=2100-01-01T00:00:00Z')).stdout).toBe('')
    // A shard that is gone has left its log: that of the first deployment, and of the run before.
    expect((await dev.mctl('logs', 'first-0-e1-0')).stdout).toContain('fake engine: rank 0 of 1')
    process.kill((shard as Shard).status?.pid ?? 0, 'SIGKILL')
    const again = () => dev.mctl('get', 'shards', '--no-headers', '--field-selector', 'status.phase=Ready')
    await until(async () => (await again()).stdout.startsWith('second-0-e2-0 '), 30_000, 'the second epoch is ready')
    expect((await dev.mctl('logs', 'md/second', '--previous')).stdout).toBe(
      (await dev.mctl('logs', 'second-0-e1-0')).stdout,
    )
    expect((await dev.mctl('logs', 'second-0-e1-0')).stdout).toContain('SIGKILL')
    expect(await dev.mctl('logs', 'nobody-0-e1-0')).toMatchObject({
      code: 1,
      stderr:
        'Error from server (NotFound): shards.mctl.dev "nobody-0-e1-0" not found, and no connected agent keeps a log of that name\n',
    })
  })

  test('while a chat goes on, top tells of it and of the nodes; of neither once it is over', async () => {
    const chat = dev.mctl('chat', 'second', 'Hello', '--max-tokens', '250')
    const models = async () => (await dev.mctl('top', 'models', '--no-headers')).stdout
    const isLive = async () => /^second +1\/1 +[1-9]\d*\.\d +1 +1 +0$/m.test(await models())
    await until(isLive, 15_000, 'the chat is one request in flight, with tokens every second')
    const [node] = (await dev.client.live({})).nodes
    expect(node).toMatchObject({ name: 'mini-1', connected: true, reading: { simulated: true } })
    expect(node?.heardAgoMs).toBeLessThan(20_000)
    expect(await chat).toMatchObject({ code: 0 })
    await until(async () => /^second +1\/1 +\S+ +0 +1 +0$/m.test(await models()), 10_000, 'nothing is in flight')
  })

  test('a chat streams its answer and tells its speed; a conversation goes on', async () => {
    const chat = spawn(
      process.execPath,
      [join(root, 'dist/src/bin/mctl.js'), 'chat', 'second', 'Hello', '--max-tokens', '12'],
      {
        env: { ...process.env, MCTL_SERVER: dev.server },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    const chunks: string[] = []
    let stderr = ''
    chat.stdout.on('data', (chunk: Buffer) => chunks.push(chunk.toString()))
    chat.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    expect(await new Promise((resolve) => chat.on('close', resolve))).toBe(0)
    // Twelve tokens at 50 a second are many pieces, not one at the end.
    expect(chunks.length).toBeGreaterThan(1)
    expect(chunks.join('').trim().split(' ')).toHaveLength(12)
    expect(stderr).toMatch(/^\(12 tokens, first after \d+\.\d\d s, \d+\.\d tokens\/s\)\n$/)

    // What was seen stands beside what was predicted, and corrects what the next plan says.
    expect(await dev.mctl('chat', 'second', 'Hello', '--max-tokens', '30')).toMatchObject({ code: 0 })
    const seen =
      /predicted \d+\.\d tokens\/s\n +observed \d+\.\d tokens\/s over link none, 1 answer \(predicted for them: /
    const described = async () => seen.test((await dev.mctl('describe', 'md', 'second')).stdout)
    await until(described, 40_000, 'an observed speed is told')
    const planned = await dev.mctlWith(
      documents(model('large', 6 * GIB), deployment('second', 'large')),
      'plan',
      '-f',
      '-',
    )
    expect(planned.stdout).toContain('corrected by 1 observation of Single over none')

    const conversation = await dev.mctlWith('Hello\nand again\n', 'chat', 'second', '--max-tokens', '4')
    expect(conversation.code).toBe(0)
    expect(conversation.stdout.trimEnd().split('\n')).toHaveLength(2)
    const unknown = await dev.mctl('chat', 'nobody', 'Hello')
    expect(unknown).toMatchObject({ code: 1, stdout: '' })
    expect(unknown.stderr).toContain('error: the gateway answered 404: ')
  })

  test('bash, zsh and fish complete commands, flags, types and names, as far as they are installed', async () => {
    file('mctl', `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'dist/src/bin/mctl.js')}' "$@"\n`)
    chmodSync(join(files, 'mctl'), 0o755)
    const env = { PATH: `${files}:${process.env['PATH'] ?? ''}`, MCTL_SERVER: dev.server }
    const wanted = [
      ['mctl descr', 'mctl describe'],
      ['mctl get --sel', 'mctl get --selector'],
      ['mctl describe node min', 'mctl describe node mini-1'],
    ] as const
    const tried = (['bash', 'zsh', 'fish'] as const).filter(hasShell)
    expect(tried).toContain('bash')
    const absent = ['zsh', 'fish'].filter((shell) => !(tried as readonly string[]).includes(shell))
    if (absent.length > 0) console.info(`not installed, so its completion was not tried: ${absent.join(', ')}`)
    await Promise.all(
      tried.map(async (shell) => {
        const script = file(`completion.${shell}`, (await mctl(['completion', shell])).stdout)
        const completed = await completedBy(shell, `source ${script}`, wanted, env)
        expect(completed, shell).toEqual(wanted.map(([, whole]) => whole))
      }),
    )
  })

  const good = documents(model('other', GIB), deployment('other', 'other'))
  const bomb = [
    'a: &a [x, x]',
    ...'bcdefghij'.split('').map((c, i) => `${c}: &${c} [*${'abcdefghi'[i]}, *${'abcdefghi'[i]}]`),
  ]
  test.each<[string, string | Uint8Array, RegExp]>([
    ['of 10 MB', good + `\n${'#'.repeat(10 * 2 ** 20)}`, /:1: the file is too large: \d+ bytes, must be less than/],
    [
      'that is not UTF-8',
      Buffer.concat([Buffer.from(`${good}\n`), Buffer.from([0xe9])]),
      /:4: the file is not UTF-8 text/,
    ],
    ['that is empty', '', /:1: the file holds no objects/],
    ['with an alias bomb', documents(good, bomb.join('\n')), /:\d+: aliases are not supported/],
    ['with a duplicate key', documents(good, '{"kind": "Model", "kind": "Model"}'), /:5: kind: duplicate field "kind"/],
  ])('a file %s is refused with its place, and nothing is changed', async (_, content, message) => {
    const before = await everything()
    const path = file('bad.yaml', content)
    for (const ran of [
      await dev.mctl('apply', '-f', path),
      await dev.mctl('apply', '-f', file('good.yaml', good), '-f', path),
    ]) {
      expect(ran).toMatchObject({ code: 1, stdout: '' })
      expect(ran.stderr).toMatch(/^error: /)
      expect(ran.stderr).toMatch(message)
    }
    expect(await everything()).toEqual(before)
  })

  /** What people write: uid and generation of each. */
  async function everything() {
    const lists = await Promise.all((['Model', 'ModelDeployment'] as const).map((kind) => dev.client.list({ kind })))
    return lists.flatMap(({ items }) => items.map(({ metadata }) => [metadata.uid, metadata.generation]))
  }

  test('no server at the address', async () => {
    const address = `127.0.0.1:${await freePort()}`
    const ran = await mctl(['get', 'nodes', '--server', address])
    expect(ran).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toMatch(/^Unable to connect to the server: .*ECONNREFUSED.*\nIs it running there\? /)
    expect(ran.stderr).toContain(address)
  })

  test('after mctl delete no process, port or socket of it is left, and its memory is free', async () => {
    const shards = (await dev.client.list({ kind: 'Shard' })).items as readonly Shard[]
    const engines = shards.map((shard) => shard.status?.pid ?? 0)
    const serving = processesOf(dev.dir)
    expect(serving).toEqual(expect.arrayContaining(engines))
    const ports = portsOf(serving)

    expect(await dev.mctl('delete', 'md', '--all')).toMatchObject({ code: 0 })
    expect(engines.filter(pidAlive)).toEqual([])
    const agentDir = join(dev.dir, 'agents/mini-1')
    await until(() => readdirSync(join(agentDir, 'shards')).length === 0, 10_000, 'the agent has forgotten its shards')
    // The server, its gateway and the agent stay; the shardhost and the engine, which had a port each, are gone.
    expect(serving.filter(pidAlive)).toHaveLength(serving.length - 2 * engines.length)
    const open = await Promise.all(ports.map(isOpen))
    expect(open.filter((is) => !is)).toHaveLength(2 * engines.length)
    expect(existsSync(socketDir(agentDir, process.getuid?.() ?? 0))).toBe(false)
    expect((await dev.mctl('get', 'nodes')).stdout).toMatch(/^mini-1 +Ready +Apple M4 \(simulated\) +0\/10\.1Gi +0 /m)
    expect(await dev.mctl('get', 'md,sg,shards')).toEqual({
      code: 0,
      stdout: '',
      stderr: 'No resources found in default namespace.\n',
    })
  })
})

describe.each(['SIGTERM', 'SIGINT'] as const)('mctl dev that is ended by %s', (signal) => {
  /** So long that the agents' sockets need a folder of their own under /tmp. */
  const temporary = join(tempDir(), 'a-folder-with-a-name-that-is-much-too-long-for-the-path-of-a-unix-socket')
  afterAll(() => rmSync(join(temporary, '..'), { recursive: true, force: true }))

  test('leaves no process, no port and no file, though engines ran', async () => {
    mkdirSync(temporary)
    const [server, gateway] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
    const env = { TMPDIR: temporary, MCTL_SERVER: server, MCTL_MODELS_DIR: join(temporary, '../models') }
    const args = ['dev', '--nodes', '2', '--simulate', simulate, '--listen', server, '--gateway', gateway]
    const dev = new Running(args, join(temporary, '../dev.log'), env)
    try {
      await until(() => !dev.alive || dev.log().split('\n').includes('ready'), 60_000, 'mctl dev is ready')
      expect(dev.log()).toContain('\nready\n')
      const pair = documents(
        model('small', 2 ** 27),
        deployment('pair', 'small', { parallelism: { strategy: 'Pipeline', degree: 2 } }),
      )
      const applied = await mctl(['apply', '--wait', '-f', '-'], env, pair)
      expect([applied.code, applied.stderr]).toEqual([0, ''])

      const running = processesOf(temporary)
      const ports = portsOf(running)
      const [dataDir = ''] = readdirSync(temporary)
      const sockets = ['mini-1', 'mini-2'].map((name) =>
        socketDir(join(temporary, dataDir, 'agents', name), process.getuid?.() ?? 0),
      )
      // dev, server, gateway, and of each node an agent, a shardhost and an engine.
      expect(running.length).toBeGreaterThanOrEqual(9)
      expect(ports.length).toBeGreaterThanOrEqual(4)
      expect(sockets.map((dir) => dir.startsWith('/tmp/mctl-') && readdirSync(dir).length)).toEqual([1, 1])

      expect(await dev.signal(signal)).toBe(0)
      expect(dev.log()).toMatch(/\nready\nstopping\nstopped\n$/)
      expect(running.filter(pidAlive)).toEqual([])
      expect(processesOf(temporary)).toEqual([])
      expect(await Promise.all(ports.map(isOpen))).toEqual(ports.map(() => false))
      expect(readdirSync(temporary)).toEqual([])
      expect(sockets.filter((dir) => existsSync(dir))).toEqual([])
    } finally {
      await dev.signal('SIGKILL')
    }
  })
})
