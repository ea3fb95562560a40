"""Checks whether a statement would stay on one shard of a Citus cluster, as far as its text shows.

The rules are those of Citus 12.1: a statement whose tables are all held to one `user_id` goes to one shard,
and one with INSERTs in its WITH runs part by part there. A rule that needs the types of an expression is kept
more strictly here than there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType, JoinType, SetOperation

# What a query gives: the names of its columns, and whether each is certainly the user's id. Nothing for a
# SELECT *.
Columns = list[tuple[str | None, bool]]
CTEs = Mapping[str, Columns]

_MODIFICATIONS = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)


def statement_faults(
    statement: str, user_id: int, tables: set[str], volatility: Mapping[str, str]
) -> list[str]:
    """Say why a statement, whose parameter of that number is the user's id, does not stay on the shard of
    that user.

    `volatility` is the worst `provolatile` of each function of PostgreSQL.
    """
    checker = _Checker(user_id, tables, volatility)
    [raw] = parse_sql(statement)
    checker.query(raw.stmt, {})
    modifies = any(isinstance(node, _MODIFICATIONS) for node in _nodes(raw.stmt))
    for name in functions(raw.stmt):
        if name not in volatility:
            checker.faults.append(f"{name}() is not a function of PostgreSQL")
        elif name == "nextval" or (modifies and volatility[name] == "v"):
            checker.faults.append(f"{name}() is volatile")
    return checker.faults


class _Equation(NamedTuple):
    """A condition `left = right`; what is outside of `within` it does not restrict."""

    left: Any
    right: Any
    within: set[str] | None


@dataclass
class _Level:
    """The relations of one query level, by the name that they go by there."""

    tables: set[str] = field(default_factory=set)
    derived: dict[str, Columns] = field(default_factory=dict)
    equations: list[_Equation] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    def names(self) -> set[str]:
        return self.tables | self.derived.keys()

    def owner(self, node: Any) -> str | None:
        """The relation of this level whose `user_id` an expression is."""
        if (
            not isinstance(node, ast.ColumnRef)
            or not isinstance(node.fields[-1], ast.String)
            or node.fields[-1].sval != "user_id"
        ):
            return None
        if len(node.fields) > 1:
            name: str = node.fields[-2].sval
            return name if name in self.names() else None
        # PostgreSQL refuses a bare name that several could mean.
        owners = self.tables | {name for name, columns in self.derived.items() if "user_id" in dict(columns)}
        return owners.pop() if len(owners) == 1 else None


class _Checker:
    def __init__(self, user_id: int, tables: set[str], volatility: Mapping[str, str]) -> None:
        self.faults: list[str] = []
        self._user_id = user_id
        self._tables = tables
        self._volatility = volatility

    def query(self, node: Any, ctes: CTEs) -> Columns:
        """Check a query and all inside it, and say what it gives."""
        if node.withClause:
            ctes = dict(ctes)
            for cte in node.withClause.ctes:
                if node.withClause.recursive and cte.ctequery.op != SetOperation.SETOP_NONE:
                    # What the first arm gives is what the query itself gives where the second one names it.
                    ctes[cte.ctename] = self.query(cte.ctequery.larg, ctes)
                ctes[cte.ctename] = self.query(cte.ctequery, ctes)
        match node:
            case ast.SelectStmt():
                return self._select(node, ctes)
            case ast.InsertStmt():
                return self._insert(node, ctes)
            case ast.UpdateStmt() | ast.DeleteStmt():
                return self._change(node, ctes)
        self.faults.append(f"{type(node).__name__} is not known here")
        return []

    def _select(self, node: ast.SelectStmt, ctes: CTEs) -> Columns:
        if node.op != SetOperation.SETOP_NONE:
            arms = zip(self.query(node.larg, ctes), self.query(node.rarg, ctes), strict=False)
            return [(name, ours and theirs) for (name, ours), (_, theirs) in arms]
        if node.valuesLists:
            for row in node.valuesLists:
                self._subqueries(row, ctes)
            rows = [[self._is_parameter(value) for value in row] for row in node.valuesLists]
            return [(None, all(column)) for column in zip(*rows, strict=True)]
        level = self._level(node.fromClause, node.whereClause, ctes)
        for member in set(node) - {"withClause", "fromClause"}:
            self._subqueries(getattr(node, member), ctes)
        return self._outputs(node.targetList, level)

    def _insert(self, node: ast.InsertStmt, ctes: CTEs) -> Columns:
        table = node.relation.relname
        if node.withClause:
            self.faults.append(f"INSERT INTO {table} has a WITH of its own")
        given = self.query(node.selectStmt, ctes)
        ours = [
            mine
            for column, (_, mine) in zip(node.cols or (), given, strict=False)
            if column.name == "user_id"
        ]
        if table not in self._tables or ours != [True]:
            self.faults.append(f"INSERT INTO {table} is not held to user_id")
        if node.selectStmt.valuesLists:
            if any(isinstance(inner, ast.SubLink) for inner in _nodes(node.selectStmt)):
                self.faults.append(f"INSERT INTO {table}: a subquery in VALUES")
        else:
            if not _takes_user_id(node):
                self.faults.append(f"INSERT INTO {table}: user_id is not the source's")
            sources = {inner.relname for inner in _nodes(node.selectStmt) if isinstance(inner, ast.RangeVar)}
            if sources & ctes.keys() and sources - ctes.keys():
                self.faults.append(f"INSERT INTO {table} reads both a table and a part of WITH")
        if node.onConflictClause:
            if any(target.name == "user_id" for target in node.onConflictClause.targetList or ()):
                self.faults.append(f"INSERT INTO {table} changes user_id")
            self._immutable(node.onConflictClause, f"ON CONFLICT of {table}")
        self._returning(node)
        level = _Level({node.relation.alias.aliasname if node.relation.alias else table})
        level.held = level.tables
        return self._outputs(_returned(node), level)

    def _change(self, node: ast.UpdateStmt | ast.DeleteStmt, ctes: CTEs) -> Columns:
        table = node.relation.relname
        others = node.fromClause if isinstance(node, ast.UpdateStmt) else node.usingClause
        # The target is a table, even where a part of WITH has its name.
        level = self._level(others, node.whereClause, ctes, target=node.relation)
        targets = node.targetList if isinstance(node, ast.UpdateStmt) else ()
        if any(target.name == "user_id" for target in targets):
            self.faults.append(f"UPDATE {table} changes user_id")
        for part in (*(target.val for target in targets), node.whereClause):
            self._reducible(part, f"UPDATE or DELETE of {table}")
            self._subqueries(part, ctes)
        self._returning(node)
        return self._outputs(_returned(node), level)

    def _level(self, sources: Any, where: Any, ctes: CTEs, target: ast.RangeVar | None = None) -> _Level:
        """Find out which of the relations of a query level are held to the user's id."""
        level = _Level()
        if target:
            self._relation(target, {}, level)
        for source in sources or ():
            self._relation(source, ctes, level)
        level.equations += [_Equation(left, right, None) for left, right in _equations(where)]
        found = True
        while found:
            found = False
            for equation in level.equations:
                for mine, other in ((equation.left, equation.right), (equation.right, equation.left)):
                    name = level.owner(mine)
                    if name not in level.tables - level.held or (
                        equation.within is not None and name not in equation.within
                    ):
                        continue
                    # Only a table: what a part of WITH holds is not known when the shard is chosen.
                    if self._is_parameter(other) or level.owner(other) in level.held:
                        level.held.add(name)
                        found = True
        self.faults += [f"{name} is not held to user_id" for name in sorted(level.tables - level.held)]
        return level

    def _relation(self, node: Any, ctes: CTEs, level: _Level) -> None:
        match node:
            case ast.RangeVar(relname=table, alias=alias):
                name = alias.aliasname if alias else table
                if alias and alias.colnames:
                    self.faults.append(f"{name} renames columns")
                if table in ctes and not node.schemaname:
                    level.derived[name] = ctes[table]
                else:
                    level.tables.add(name)
                    if table not in self._tables:
                        self.faults.append(f"{table} is not a distributed table")
            case ast.RangeSubselect(alias=alias):
                level.derived[alias.aliasname] = self.query(node.subquery, ctes)
            case ast.RangeFunction(alias=alias):
                self._subqueries(node.functions, ctes)
                level.derived[alias.aliasname if alias else ""] = []
            case ast.JoinExpr():
                sides = []
                for side in (node.larg, node.rarg):
                    before = level.names()
                    self._relation(side, ctes, level)
                    sides.append(level.names() - before)
                left, right = sides
                within = {
                    JoinType.JOIN_INNER: left | right,
                    JoinType.JOIN_LEFT: right,
                    JoinType.JOIN_RIGHT: left,
                    JoinType.JOIN_FULL: set(),
                }[node.jointype]
                level.equations += [_Equation(*sides, within) for sides in _equations(node.quals)]
                self._subqueries(node.quals, ctes)
            case _:
                self.faults.append(f"{type(node).__name__} is not known here")

    def _outputs(self, targets: Any, level: _Level) -> Columns:
        columns: Columns = []
        for target in targets or ():
            name = target.name
            if isinstance(target.val, ast.ColumnRef):
                if isinstance(target.val.fields[-1], ast.A_Star):
                    return []
                name = name or target.val.fields[-1].sval
            owner = level.owner(target.val)
            ours = owner in level.held or (
                owner is not None and dict(level.derived.get(owner, ())).get("user_id", False)
            )
            columns.append((name, ours or self._is_parameter(target.val)))
        return columns

    def _is_parameter(self, node: Any) -> bool:
        return isinstance(node, ast.ParamRef) and node.number == self._user_id

    def _subqueries(self, node: Any, ctes: CTEs) -> None:
        """Check the queries inside of expressions."""
        if isinstance(node, ast.SubLink):
            self._subqueries(node.testexpr, ctes)
            self.query(node.subselect, ctes)
            return
        for child in _children(node):
            self._subqueries(child, ctes)

    def _returning(self, node: Any) -> None:
        self._immutable(_returned(node), f"RETURNING of {node.relation.relname}")

    def _immutable(self, node: Any, place: str) -> None:
        self.faults += [f"{place}: {what} is not immutable" for what in self._mutable(node)]

    def _reducible(self, node: Any, place: str) -> None:
        """Citus computes what is stable once for all shards, so no column may go into it, and it may not
        stand where it is lazy.
        """
        if isinstance(node, ast.SubLink):
            return
        if isinstance(node, ast.CoalesceExpr | ast.CaseExpr):
            self._immutable(node, f"{place}, in COALESCE or CASE")
        elif (mutable := list(self._mutable(node, deep=False))) and any(
            isinstance(n, ast.ColumnRef) for n in _nodes(node)
        ):
            self.faults.append(f"{place}: {mutable[0]} of a column is not immutable")
        else:
            for child in _children(node):
                self._reducible(child, place)

    def _mutable(self, node: Any, *, deep: bool = True) -> Iterator[str]:
        """What in an expression is not surely immutable: calls, and casts and intervals beside columns, whose
        types nobody says.
        """
        for inner in _nodes(node) if deep else (node,):
            has_column = any(isinstance(n, ast.ColumnRef) for n in _nodes(inner))
            match inner:
                # AT TIME ZONE of a timestamptz, as all times are here, has no zone, and so has its date.
                case ast.FuncCall(funcname=[*_, ast.String(sval="timezone")]):
                    continue
                case ast.TypeCast(arg=ast.FuncCall(funcname=[*_, ast.String(sval="timezone")])):
                    continue
                case ast.FuncCall() if self._volatility.get(inner.funcname[-1].sval, "v") != "i":
                    yield f"{inner.funcname[-1].sval}()"
                case ast.SQLValueFunction():
                    yield inner.op.name
                case ast.TypeCast() if has_column:
                    yield f"a cast to {inner.typeName.names[-1].sval}"
                case ast.A_Expr() if has_column and any(
                    _is_interval(side) for side in (inner.lexpr, inner.rexpr)
                ):
                    yield "an interval"


def _is_interval(node: Any) -> bool:
    return isinstance(node, ast.TypeCast) and node.typeName.names[-1].sval == "interval"


def _takes_user_id(node: ast.InsertStmt) -> bool:
    """Return whether an INSERT takes `user_id` from a column of its SELECT. With a value Citus copies the
    rows through the coordinator.
    """
    if node.selectStmt.op != SetOperation.SETOP_NONE:
        return True
    targets = zip(node.cols or (), node.selectStmt.targetList, strict=False)
    return any(
        column.name == "user_id" and isinstance(target.val, ast.ColumnRef) for column, target in targets
    )


def _returned(node: Any) -> Any:
    return node.returningClause.exprs if node.returningClause else ()


def _equations(condition: Any) -> Iterator[tuple[Any, Any]]:
    """The equations that a condition is only true with."""
    if isinstance(condition, ast.BoolExpr) and condition.boolop == BoolExprType.AND_EXPR:
        for part in condition.args:
            yield from _equations(part)
    elif (
        isinstance(condition, ast.A_Expr)
        and condition.kind == A_Expr_Kind.AEXPR_OP
        and condition.name[-1].sval == "="
    ):
        yield condition.lexpr, condition.rexpr


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, tuple):
        yield from node
    elif isinstance(node, ast.Node):
        for member in node:
            yield getattr(node, member)


def _nodes(node: Any) -> Iterator[ast.Node]:
    if isinstance(node, ast.Node):
        yield node
    for child in _children(node):
        yield from _nodes(child)


def functions(node: Any) -> set[str]:
    """Return the names of the functions that are called in a tree."""
    return {inner.funcname[-1].sval for inner in _nodes(node) if isinstance(inner, ast.FuncCall)}
