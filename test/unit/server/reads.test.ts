import { describe, expect, test } from 'vitest'
import { setStatus } from '../../../src/store/objects.ts'
import { aDeployment, aNode, aServer, aShard, codeOf, nameOf } from './fixture.ts'

describe('get and list', () => {
  test('get finds in the default namespace and says NotFound in kubectl’s words', async () => {
    const { person } = await aServer()
    const client = person()
    const { object } = await client.create({ object: aDeployment('tiny') })
    expect((await client.get({ ref: { kind: 'ModelDeployment', namespace: '', name: 'tiny' } })).object).toEqual(object)
    const missing = client.get({ ref: { kind: 'ModelDeployment', namespace: 'x', name: 'tiny' } })
    await expect(missing).rejects.toMatchObject({
      code: 'NotFound',
      message: 'modeldeployments.mctl.dev "tiny" not found',
    })
  })

  test('list selects by namespace, labels and fields', async () => {
    const { person } = await aServer()
    const client = person()
    for (const [name, chip] of [
      ['a', 'm4'],
      ['b', 'm4-pro'],
      ['c', 'm2'],
    ] as const)
      await client.create({ object: aNode(name, { chip }) })
    await client.create({ object: aShard('a') })
    await client.create({ object: aShard('b', 'tiny-1') })
    const names = async (request: Parameters<typeof client.list>[0]) => (await client.list(request)).items.map(nameOf)
    expect(await names({ kind: 'Node' })).toEqual(['a', 'b', 'c'])
    expect(await names({ kind: 'Node', labelSelector: 'chip in (m4, m2)' })).toEqual(['a', 'c'])
    expect(await names({ kind: 'Node', fieldSelector: 'metadata.name!=a' })).toEqual(['b', 'c'])
    expect(await names({ kind: 'Shard', fieldSelector: 'spec.nodeName=b' })).toEqual(['tiny-1-e1-0'])
    expect(await names({ kind: 'Shard', namespace: 'elsewhere' })).toEqual([])
    expect(await codeOf(client.list({ kind: 'Node', labelSelector: 'a ~ b' }))).toBe('Invalid')
    expect(await codeOf(client.list({ kind: 'Node', fieldSelector: 'spec.colour=blue' }))).toBe('Invalid')
  })

  test('pages follow each other without a gap, at the revision of the first', async () => {
    const { person } = await aServer()
    const client = person()
    for (let i = 0; i < 7; i++) await client.create({ object: aNode(`n${i}`) })
    const first = await client.list({ kind: 'Node', limit: 3 })
    await client.create({ object: aNode('n0-late') })
    await client.create({ object: aNode('n9') })
    const token = first.continueToken ?? ''
    const second = await client.list({ kind: 'Node', limit: 3, continueToken: token })
    const third = await client.list({ kind: 'Node', limit: 3, continueToken: second.continueToken ?? '' })
    expect([first, second, third].map((page) => page.items.map(nameOf))).toEqual([
      ['n0', 'n1', 'n2'],
      ['n3', 'n4', 'n5'],
      ['n6', 'n9'],
    ])
    expect(third.continueToken).toBeUndefined()
    expect(new Set([first, second, third].map((page) => page.resourceVersion)).size).toBe(1)
    expect(await codeOf(client.list({ kind: 'Node', continueToken: 'garbage' }))).toBe('Invalid')
    const foreign = Buffer.from(JSON.stringify({ namespace: '', name: 'a', revision: '1', incarnation: 'old' }))
    expect(await codeOf(client.list({ kind: 'Node', continueToken: foreign.toString('base64url') }))).toBe('Expired')
  })

  test('a list that is larger than a message comes whole', async () => {
    const { person } = await aServer()
    const client = person()
    const annotations = { note: 'x'.repeat(200_000) }
    for (let i = 10; i < 40; i++) {
      const node = aNode(`n${i}`)
      await client.create({ object: { ...node, metadata: { ...node.metadata, annotations } } })
    }
    expect((await client.list({ kind: 'Node', limit: 100 })).continueToken).toBeDefined()
    const whole = await client.list({ kind: 'Node', table: true })
    expect(whole.items).toHaveLength(30)
    expect(whole.rows).toHaveLength(30)
  })

  test('tables come with columns, and cells that other objects tell', async () => {
    const { person } = await aServer()
    const client = person()
    await client.create({ object: aNode('mini-1') })
    await client.create({ object: aShard('mini-1') })
    await client.create({ object: aShard('mini-1', 'tiny-1') })
    const { columns = [], rows = [] } = await client.list({ kind: 'Node', table: true })
    const cell = (name: string) => rows[0]?.cells[columns.findIndex((c) => c.name === name)]
    expect(cell('NAME')).toBe('mini-1')
    expect(cell('SHARDS')).toBe('2')
    const one = await client.get({ ref: { kind: 'Node', namespace: '', name: 'mini-1' }, table: true })
    expect(one.row).toEqual(rows[0])
    expect((await client.list({ kind: 'Node' })).rows).toBeUndefined()
  })

  test('the table of models says where each lies, and where it is not whole', async () => {
    const { store, person } = await aServer()
    const source = 'hf://org/name'
    await person().create({
      object: { apiVersion: 'mctl.dev/v1alpha1', kind: 'Model', metadata: { name: 'm' }, spec: { source } } as never,
    })
    for (const [name, state] of [
      ['mini-1', 'Present'],
      ['mini-2', 'Fetching'],
    ] as const) {
      await person().create({ object: aNode(name) })
      await store.transact((tx) => {
        const node = tx.get('Node', '', name)
        if (node !== undefined) setStatus(tx, node, { ...node.status, models: [{ source, state }] })
      })
    }
    const { columns = [], rows = [] } = await person().list({ kind: 'Model', table: true })
    expect(rows[0]?.cells[columns.findIndex((c) => c.name === 'NODES')]).toBe('mini-1,mini-2(Fetching)')
  })

  test('an agent reads its own node and shards only', async () => {
    const { person, agent } = await aServer()
    for (const name of ['mini-1', 'mini-2']) await person().create({ object: aNode(name) })
    await person().create({ object: aShard('mini-1') })
    await person().create({ object: aShard('mini-2', 'tiny-1') })
    const mini1 = agent('mini-1')
    const own = await mini1.list({ kind: 'Shard', fieldSelector: 'spec.nodeName=mini-1' })
    expect(own.items.map(nameOf)).toEqual(['tiny-0-e1-0'])
    expect((await mini1.list({ kind: 'Node', fieldSelector: 'metadata.name=mini-1' })).items.map(nameOf)).toEqual([
      'mini-1',
    ])
    const refused = [
      mini1.list({ kind: 'Shard' }),
      mini1.list({ kind: 'Shard', fieldSelector: 'spec.nodeName=mini-2' }),
      mini1.list({ kind: 'Shard', fieldSelector: 'spec.nodeName!=mini-1' }),
      mini1.list({ kind: 'ModelDeployment' }),
      mini1.get({ ref: { kind: 'Node', namespace: '', name: 'mini-2' } }),
      mini1.get({ ref: { kind: 'Shard', namespace: 'default', name: 'tiny-1-e1-0' } }),
    ]
    expect(await Promise.all(refused.map(codeOf))).toEqual(refused.map(() => 'Forbidden'))
  })
})
