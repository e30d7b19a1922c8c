/** Manifests from addresses: told with the address, bounded in size and time. */
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import type { Cli } from '../../../src/cli/context.ts'
import { readManifests, readValidManifests } from '../../../src/cli/files.ts'
import { settle, VirtualClock } from '../../support/virtualclock.ts'

const good =
  'apiVersion: mctl.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: chat}\nspec: {model: {name: tiny}}\n'

async function aSite(answer: (path: string, response: ServerResponse) => void) {
  const server = createServer((request, response) => answer(request.url ?? '', response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const clock = new VirtualClock()
  const terminal = { readStdin: () => Promise.resolve(Buffer.from(good)) }
  const cli = { clock, signal: new AbortController().signal, cwd: '/', terminal } as unknown as Cli
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const messageOf = (path: string) =>
    readValidManifests(cli, [`${base}${path}`], false).then(
      () => 'no error',
      (error: unknown) => (error as Error).message.replaceAll(base, 'BASE'),
    )
  return { cli, base, clock, messageOf }
}

test('a manifest is read from its address, over a redirect, too; and from standard input beside it', async () => {
  const { cli, base } = await aSite((path, response) => {
    if (path === '/old.yaml') response.writeHead(302, { location: '/chat.yaml' }).end()
    else response.end(good)
  })
  const read = await readManifests(cli, [`${base}/old.yaml`, '-'], false)
  expect(read.map(({ manifest, file }) => [manifest.metadata.name, file])).toEqual([
    ['chat', `${base}/old.yaml`],
    ['chat', '<stdin>'],
  ])
})

test('what is wrong is told with address, line and path', async () => {
  const { messageOf } = await aSite((path, response) => {
    if (path === '/field.yaml') response.end(good.replace('spec: {', 'spec: {replicas: -1, '))
    else if (path === '/html') response.end('<html><body>sign in</body></html>')
    else response.writeHead(404).end('nothing here')
  })
  expect(await messageOf('/field.yaml')).toMatch(/^BASE\/field\.yaml:4: spec\.replicas: Invalid value: -1: must be/)
  expect(await messageOf('/html')).toMatch(/^BASE\/html:1: /)
  expect(await messageOf('/gone.yaml')).toBe('read BASE/gone.yaml: the server answered 404 Not Found')
})

test('neither a file without end nor a server that says nothing is waited for', async () => {
  const { messageOf, clock, cli } = await aSite((path, response) => {
    if (path !== '/endless') return
    const more = () => {
      if (!response.destroyed) response.write('#'.repeat(65_536), () => setImmediate(more))
    }
    more()
  })
  expect(await messageOf('/endless')).toMatch(
    /^read BASE\/endless: it is too large, a file must be less than \d+ bytes/,
  )
  const silent = messageOf('/silent')
  await settle()
  await clock.advance(30_000)
  expect(await silent).toBe('read BASE/silent: it took longer than 30 s')
  const refused = readManifests(cli, ['http://ann:secret@127.0.0.1/x.yaml'], false)
  await expect(refused).rejects.toThrow(/^read an address with a name and password in it: /)
})
