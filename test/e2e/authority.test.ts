/**
 * The cluster changes its authority while it serves: a server with its gateway and two agents over TLS, a gang over both,
 * and a client that never stops asking. The server is killed at each step, and goes on where it was.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Authority } from '../../src/api/authority.ts'
import type { Node } from '../../src/api/node.ts'
import type { Shard } from '../../src/api/shard.ts'
import { nodeDnsName } from '../../src/api/trust.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { readCertificate } from '../../src/lib/x509.ts'
import { makeFirstKey, makeNextKey } from '../../src/server/trust/keys.ts'
import { claimPortRange } from '../support/ports.ts'
import type { Ran } from '../support/processes.ts'
import { Running, endAll, freePort, mctl, tempDir, until } from '../support/processes.ts'

const NODES = ['a', 'b', 'away']
let dir: string
let data: string
let listen: string
let gateway: string
let key: string
let server: Running
const agents = new Map<string, Running>()
const portRanges = new Map<string, string>()

const admin = (...args: string[]): Promise<Ran> => mctl(args, { MCTL_DATA_DIR: data })
const ann = (...args: string[]): Promise<Ran> => mctl(args, { MCTL_CONFIG: join(dir, 'ann.yaml') })
const trustFile = (name: string) => join(data, 'trust', name)

async function serve(): Promise<void> {
  const args = ['server', '--data-dir', data, '--listen', listen, '--gateway', gateway]
  server = new Running(args, join(dir, 'server.log'))
  await until(async () => (await admin('get', 'nodes')).code === 0, 60_000, 'the server serves')
}

/** As a power cut takes it: the gateway serves on. */
async function crash(change: () => unknown = () => {}): Promise<void> {
  await server.signal('SIGKILL')
  await change()
  await serve()
}

async function agent(name: string, token = ''): Promise<Running> {
  const range = portRanges.get(name) ?? (await claimPortRange())
  portRanges.set(name, range)
  const args = ['agent', '--server', listen, '--name', name, '--data-dir', join(dir, name)]
  args.push('--port-range', range, '--simulate', 'chip=Apple M4,memory=16Gi,gpuCores=10')
  const running = new Running(args, join(dir, `${name}.log`), { MCTL_TOKEN: token })
  agents.set(name, running)
  return running
}

async function tokenFor(name: string): Promise<string> {
  const { stdout } = await admin('join-token', 'create', '--node', name)
  return /MCTL_TOKEN=(\S+)/.exec(stdout)?.[1] ?? ''
}

async function listOf<T>(type: string): Promise<readonly T[]> {
  const { stdout, stderr } = await admin('get', type, '-o', 'json')
  expect(stderr).toBe('')
  return (JSON.parse(stdout) as { items: T[] }).items
}
const authorities = () => listOf<Authority>('authorities')
const phases = async () => (await authorities()).map(({ status }) => status?.phase).sort()
const nodeNamed = async (name: string) => (await listOf<Node>('nodes')).find(({ metadata }) => metadata.name === name)
const readyNodes = async () =>
  (await listOf<Node>('nodes'))
    .filter(({ status }) => status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'))
    .map(({ metadata }) => metadata.name)

const credentialsOf = (name: string) =>
  JSON.parse(readFileSync(join(dir, name, 'credentials.json'), 'utf8')) as {
    authorityPem: string
    certificatePem: string
    keyPem: string
  }
const issuerOf = (name: string) => readCertificate(credentialsOf(name).certificatePem).issuer

/** Asks without end; what was not answered well is kept. */
class Client {
  asked = 0
  readonly failures: string[] = []
  #over = false
  #run: Promise<void> | undefined

  begin(): void {
    this.#run = (async () => {
      while (!this.#over) {
        this.asked += 1
        const failure = await this.#ask()
        if (failure !== undefined) this.failures.push(`${new Date().toISOString()} ${failure}`)
        await new Promise((done) => setTimeout(done, 100))
      }
    })()
  }

  async #ask(): Promise<string | undefined> {
    try {
      const response = await fetch(`http://${gateway}/v1/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: 'gang', prompt: 'hello', max_tokens: 4 }),
      })
      const text = await response.text()
      return response.status === 200 ? undefined : `${response.status} ${text}`
    } catch (error) {
      return String(error)
    }
  }

  async end(): Promise<void> {
    this.#over = true
    await this.#run
  }
}
const client = new Client()

async function apply(name: string): Promise<void> {
  const of = (kind: string, spec: object) => ({ apiVersion: 'mctl.dev/v1alpha1', kind, metadata: { name }, spec })
  const shape = {
    ...{ architecture: 'llama', layers: 4, hiddenSize: 64, attentionHeads: 4, kvHeads: 4, headDim: 16 },
    ...{ vocabSize: 1000, parameters: 1_000_000, weightBytes: 2_000_000 },
  }
  const deployment = {
    model: { name },
    parallelism: { strategy: 'Pipeline', degree: 2 },
    serving: { contextTokens: 512, concurrency: 1 },
    engine: { name: 'fake' },
    placement: { nodes: ['a', 'b'] },
  }
  const file = join(dir, `${name}.json`)
  const objects = [of('Model', { shape }), of('ModelDeployment', deployment)]
  writeFileSync(file, objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  expect(await admin('apply', '-f', file, '--wait', '--timeout', '60s')).toMatchObject({ code: 0 })
}

/** What the door of the gang's leader makes of the gateway's certificate. */
function doorSays(credentials: { authorityPem: string; certificatePem: string; keyPem: string }, port: number) {
  return new Promise<string>((resolve) => {
    const { authorityPem: ca, certificatePem: cert, keyPem } = credentials
    const socket = connectTls({ host: '127.0.0.1', port, ca, cert, key: keyPem, servername: nodeDnsName('a') })
    socket.once('secureConnect', () => socket.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n'))
    socket.once('data', (bytes) => resolve(bytes.toString().split('\r\n')[0] ?? ''))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', () => resolve('closed'))
  })
}

beforeAll(async () => {
  dir = tempDir()
  data = join(dir, 'server')
  mkdirSync(data)
  listen = `127.0.0.1:${await freePort()}`
  gateway = `127.0.0.1:${await freePort()}`
  // Identities without a network: the authority is there before the server is.
  await makeFirstKey(data, 'changing', systemClock)
  await serve()
  key = (await admin('api-key', 'create', 'test')).stdout.trim()
  expect(await admin('user', 'create', 'ann', '--role', 'operator', '--out', join(dir, 'ann.yaml'))).toMatchObject({
    code: 0,
  })
  for (const name of NODES) await agent(name, await tokenFor(name))
  await until(async () => (await readyNodes()).length === 3, 60_000, 'three nodes are Ready')
  await apply('gang')
})
afterAll(async () => {
  await client.end()
  await admin('delete', 'md', 'gang', '--ignore-not-found', '--timeout', '30s')
  await endAll()
})

describe('a change of authority', () => {
  let old: Authority
  let next: string
  let pids: readonly (number | undefined)[]
  let oldAway: string
  let oldGateway: ReturnType<typeof credentialsOf>
  let oldToken: string
  const saved = (name: string) => join(dir, `saved-${name}`)
  const shards = () => listOf<Shard>('shards')

  test('a crash before anybody was told of the new key leaves nothing', async () => {
    ;[old] = (await authorities()) as [Authority]
    expect(old.status?.phase).toBe('Signing')
    client.begin()
    pids = (await shards()).map(({ status }) => status?.pid)
    oldAway = readFileSync(join(dir, 'away', 'credentials.json'), 'utf8')
    oldGateway = JSON.parse(readFileSync(trustFile('gateway.json'), 'utf8')) as typeof oldGateway
    await crash(() => makeNextKey(data, 'changing', 'lost', systemClock))
    expect(existsSync(trustFile('authority-next.pem'))).toBe(false)
    expect(await phases()).toEqual(['Signing'])
  })

  test('killed right after rotate: everybody comes to trust both, then the new one signs and agents renew', async () => {
    await agents.get('away')?.end()
    await until(async () => (await readyNodes()).length === 2, 60_000, 'away is known to be away')
    const rotated = await admin('authority', 'rotate')
    expect(rotated).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^authority\.mctl\.dev\/ca-\w{8} introduced\n$/),
    })
    next = /ca-\w{8}/.exec(rotated.stdout)?.[0] ?? ''
    await crash()
    expect(await admin('authority', 'rotate')).toMatchObject({ code: 1, stderr: expect.stringContaining(next) })
    await until(async () => (await phases()).includes('Outgoing'), 60_000, 'the new authority signs')
    await crash()
    const { subject } = (await authorities()).find(({ metadata }) => metadata.name === next)!.spec
    await until(() => issuerOf('a') === subject && issuerOf('b') === subject, 60_000, 'both agents renewed')
    const renewed = async () =>
      (await readyNodes()).length === 2 && (await nodeNamed('b'))?.status?.trust?.authority === next
    await until(renewed, 60_000, 'the server knows it')
  })

  test('retire is refused while somebody lives on the old one, and says who and what to do', async () => {
    const refused = await admin('authority', 'retire')
    expect(refused).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toContain('node "away": it is away')
    expect(refused.stderr).toContain('mctl delete node away')
    expect(refused.stderr).toContain('user "ann"')
    expect(refused.stderr).toContain('mctl config renew')
    expect(refused.stderr).not.toContain('node "a"')
    const shown = await admin('authority', 'get')
    expect(shown).toMatchObject({ code: 0, stdout: expect.stringMatching(/Outgoing .*\n?/) })
    expect(shown.stderr).toContain('can be retired when these live on it no more')
  })

  test('who was away comes back and renews; people renew with one command', async () => {
    await agent('away')
    await until(async () => (await nodeNamed('away'))?.status?.trust?.authority === next, 60_000, 'away renewed')
    expect(await ann('get', 'nodes')).toMatchObject({ code: 0 })
    expect(await ann('authority', 'retire')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('only an admin'),
    })
    copyFileSync(join(dir, 'ann.yaml'), saved('ann.yaml'))
    expect(await ann('config', 'renew')).toMatchObject({ code: 0, stdout: 'Context "ann" renewed.\n' })
    expect(await ann('get', 'nodes')).toMatchObject({ code: 0 })
  })

  test('a join token that pins the old authority lets in until it is retired', async () => {
    oldToken = await tokenFor('late')
    const holdups = async () => (await authorities()).flatMap(({ status }) => status?.waitingFor ?? [])
    await until(async () => (await holdups()).length === 0, 30_000, 'nobody is waited for')
  })

  test('killed while it is being retired: it ends, the old certificates are refused, and the gang never noticed', async () => {
    for (const name of ['authority.pem', 'authority-next.pem']) copyFileSync(trustFile(name), saved(name))
    await agents.get('away')?.end()
    const retired = await admin('authority', 'retire')
    expect(retired).toMatchObject({ code: 0, stdout: `authority.mctl.dev/${old.metadata.name} retired\n` })
    expect(retired.stderr).toContain('Join tokens made before')
    await crash()
    await until(async () => (await phases()).join() === 'Signing', 60_000, 'the old authority is gone')
    // As if the power had gone between the commit and the change of files.
    await crash(() => {
      for (const name of ['authority.pem', 'authority-next.pem']) copyFileSync(saved(name), trustFile(name))
    })
    expect(existsSync(trustFile('authority-next.pem'))).toBe(false)
    expect(readFileSync(trustFile('authority.pem'), 'utf8')).toBe(readFileSync(saved('authority-next.pem'), 'utf8'))
    const onlyNew = (name: string) => credentialsOf(name).authorityPem.match(/BEGIN CERTIFICATE/g)?.length === 1
    await until(() => onlyNew('a') && onlyNew('b'), 60_000, 'the agents trust the new one alone')
    await until(async () => (await readyNodes()).length >= 2, 60_000, 'both nodes are Ready')

    const leader = (await shards()).find(({ spec }) => spec.rank === 0)
    const port = leader?.status?.port ?? 0
    const fresh = JSON.parse(readFileSync(trustFile('gateway.json'), 'utf8')) as typeof oldGateway
    const nodeOf = leader?.spec.nodeName ?? ''
    expect(nodeOf).not.toBe('')
    const trusting = { ...oldGateway, authorityPem: `${fresh.authorityPem}\n${oldGateway.authorityPem}` }
    expect(await doorSays(fresh, port)).toMatch(nodeOf === 'a' ? /^HTTP/ : /ALTNAME/)
    expect(await doorSays(trusting, port)).not.toMatch(/^HTTP/)

    const stale = await mctl(['get', 'nodes'], { MCTL_CONFIG: saved('ann.yaml') })
    expect(stale).toMatchObject({ code: 1, stderr: expect.stringContaining('authority') })
    expect(await ann('get', 'nodes')).toMatchObject({ code: 0 })

    await new Promise((done) => setTimeout(done, 3_000))
    await client.end()
    expect(client.failures).toEqual([])
    expect(client.asked).toBeGreaterThan(50)
    expect((await shards()).map(({ status }) => status?.pid)).toEqual(pids)
  })

  test('who comes back after it is told what to do, and that lets it in', async () => {
    // With what it had before any of this.
    writeFileSync(join(dir, 'away', 'credentials.json'), oldAway)
    const refused = await agent('away')
    expect(await refused.exited).toBe(1)
    expect(refused.log()).toContain('the cluster changed its authority while this agent was away')
    expect(refused.log()).toContain('mctl node reset away && mctl join-token create --node away')
    const late = await agent('late', oldToken)
    expect(await late.exited).toBe(1)
    expect(late.log()).toContain('its authority was changed since')
    await admin('node', 'reset', 'away')
    await agent('away', await tokenFor('away'))
    await until(async () => (await readyNodes()).includes('away'), 60_000, 'away is Ready')
  })
})
